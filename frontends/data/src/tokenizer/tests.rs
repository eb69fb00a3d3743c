//! Tokenizing against Python's `tokenizers` 0.23 (`Tokenizer.from_file(..).encode(text).ids`), streams and damage.

use serde_json::json;

use super::*;
use crate::reference::{damaged, hash, shared};

/// A byte-level BPE tokenizer: all bytes, merges of `he` and `hel`, and one special token.
fn byte_level() -> Value {
    // GPT-2's byte alphabet: printable bytes stand for themselves, the others for characters from 256 on.
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256u32..;
    let letter = |byte: u8| {
        let code = if printable(&byte) { u32::from(byte) } else { others.next().unwrap() };
        char::from_u32(code).unwrap().to_string()
    };
    let mut vocabulary: serde_json::Map<String, Value> =
        (0..=255).map(letter).enumerate().map(|(id, token)| (token, json!(id))).collect();
    vocabulary.insert("he".into(), json!(256));
    vocabulary.insert("hel".into(), json!(257));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 258, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [258], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": [["h", "e"], ["he", "l"]]}
    })
}

/// A SentencePiece-like tokenizer: `▁` for spaces and byte tokens (id = byte) for what has no piece.
fn byte_fallback() -> Value {
    let mut vocabulary: serde_json::Map<String, Value> =
        (0..=255).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
    vocabulary.insert("▁hi".into(), json!(256));
    vocabulary.insert("▁".into(), json!(257));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocabulary, "merges": []}
    })
}

fn loaded(json: &Value) -> Tokenizer {
    Tokenizer::from_bytes(json.to_string().as_bytes(), "tokenizer.json").unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    match Tokenizer::from_bytes(bytes, "tokenizer.json") {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

/// The pieces that a stream of `ids` hands out, the end last.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.decode_stream();
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

#[test]
fn wikitext_gives_pythons_ids() {
    for (text, count, expected) in
        [("wikitext2-test", 449324, 0x098267c527d615d1), ("wikitext2-valid", 397595, 0x0d7c759392532f3e)]
    {
        for model in ["mamba-tiny", "llama-tiny"] {
            let Some(file) = shared(&format!("models/trained-here/{model}/tokenizer.json")) else { return };
            let Some(text) = shared(&format!("data/text/{text}.txt")) else { return };
            let tokenizer = Tokenizer::from_file(file).unwrap();
            assert_eq!(tokenizer.vocabulary_size(), 2048);
            let text = read::text(&text).unwrap();
            let ids = tokenizer.encode(&text).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!((ids.len(), hash(&bytes)), (count, expected), "{model}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            let start = &ids[..2000];
            assert_eq!(pieces(&tokenizer, start).concat(), tokenizer.decode(start).unwrap());
        }
    }
}

#[test]
fn no_special_tokens_are_added_unless_asked_for() {
    let tokenizer = loaded(&byte_level());
    assert_eq!(tokenizer.encode("help").unwrap(), [257, u32::from(b'p')]);
    assert_eq!(tokenizer.encode_with_special_tokens("help").unwrap(), [258, 257, u32::from(b'p')]);
    assert_eq!(tokenizer.encode("<s>hel").unwrap(), [258, 257]);
    assert!(tokenizer.encode("").unwrap().is_empty());
    assert_eq!(tokenizer.decode(&[258, 257, 99999]).unwrap(), "hel");
    assert_eq!((tokenizer.vocabulary_size(), tokenizer.token_id("<s>")), (259, Some(258)));
    assert_eq!(tokenizer.token(257).as_deref(), Some("hel"));
    assert_eq!(tokenizer.token(259), None);
}

#[test]
fn truncation_padding_and_dropout_are_ignored() {
    let mut json = byte_level();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                             "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    json["model"]["dropout"] = json!(1.0);
    assert_eq!(loaded(&json).encode("helpme").unwrap(), loaded(&byte_level()).encode("helpme").unwrap());
}

#[test]
fn a_stream_hands_out_whole_characters() {
    let tokenizer = loaded(&byte_level());
    let ids: Vec<u32> = "a€😀".bytes().map(u32::from).collect();
    assert_eq!(pieces(&tokenizer, &ids), ["a", "", "", "€", "", "", "", "😀", ""]);
    // An incomplete character shows at the end, or when the next id proves that it never will be complete.
    assert_eq!(pieces(&tokenizer, &[0xe2, 0x82]), ["", "", "\u{FFFD}"]);
    assert_eq!(pieces(&tokenizer, &[0xe2, u32::from(b'x')]), ["", "\u{FFFD}x", ""]);
    assert_eq!(pieces(&tokenizer, &[]), [""]);
}

#[test]
fn a_stream_of_byte_fallback_tokens_hands_out_whole_characters() {
    let tokenizer = loaded(&byte_fallback());
    let mut ids = vec![256, 256];
    ids.extend("€é".bytes().map(u32::from));
    ids.push(256);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "hi hi€é hi");
    assert_eq!(pieces(&tokenizer, &ids), ["hi", " hi", "", "", "€", "", "é", " hi", ""]);
}

#[test]
fn the_pieces_of_a_stream_make_up_the_text() {
    let text = "hello hello, wörld — 日本語のテキスト 😀😀 ".repeat(9) + "\u{FFFD}\u{FFFD} end";
    let tokenizer = loaded(&byte_level());
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(pieces(&tokenizer, &ids).concat(), text);
    // Bytes that never form a character: given up on in bounded stretches, none lost.
    let garbage = vec![0x80; 1000];
    assert_eq!(pieces(&tokenizer, &garbage).concat(), tokenizer.decode(&garbage).unwrap());
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    assert!(
        refusal(b"{\n \"a\": ]")
            .contains("tokenizer.json: not a tokenizer: invalid JSON: expected value at line 2")
    );
    assert!(refusal(b"[1, 2]").contains("not a JSON object"));
    assert!(refusal(b"{\"model_type\": \"llama\"}").contains("`model` is missing"));
    assert!(refusal(&"[".repeat(100_000).into_bytes()).contains("recursion limit"));
    assert!(refusal(b"\xff\xfe").contains("invalid JSON"));
    let mut json = byte_level();
    json["model"]["type"] = json!("Magic");
    assert!(refusal(json.to_string().as_bytes()).contains("cannot load this tokenizer"));
    let mut json = byte_level();
    json["model"]["merges"] = json!([["nothing", "such"]]);
    assert!(refusal(json.to_string().as_bytes()).contains("cannot load this tokenizer"));
    let mut json = byte_level();
    json["pre_tokenizer"] =
        json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false});
    assert!(refusal(json.to_string().as_bytes()).contains("cannot load this tokenizer"));
}

#[test]
fn a_file_that_makes_the_library_panic_is_refused() {
    let mut json = byte_level();
    json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "not base64"});
    assert!(refusal(json.to_string().as_bytes()).contains("cannot load this tokenizer: Precompiled"));
}

#[test]
fn a_hostile_pattern_ends() {
    let mut json = byte_level();
    let pattern = json!({"Regex": "(?:a+)+(?=b)(?<!c)$|(?:(?:x+x+)+y)\\1?"});
    json["pre_tokenizer"] =
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
    if let Ok(tokenizer) = Tokenizer::from_bytes(json.to_string().as_bytes(), "tokenizer.json") {
        let started = std::time::Instant::now();
        let _ = tokenizer.encode(&"a".repeat(400));
        assert!(started.elapsed().as_secs() < 20);
    }
}

#[test]
fn long_runs_are_encoded_in_bounded_time() {
    let tokenizer = loaded(&byte_level());
    for run in [" ", "h", "\n", "日"] {
        assert_eq!(tokenizer.encode(&run.repeat(200_000)).unwrap().len(), 200_000 * run.len());
    }
}

#[test]
fn damaged_files_never_panic() {
    let whole = byte_level().to_string();
    for seed in 0..500 {
        // A changed id or piece may still make a tokenizer; it then has to hold up in use.
        let tokenizer = Tokenizer::from_bytes(&damaged(whole.as_bytes(), seed), "tokenizer.json");
        let _ = tokenizer.and_then(|tokenizer| tokenizer.decode(&tokenizer.encode("hello <s> wörld")?));
    }
}

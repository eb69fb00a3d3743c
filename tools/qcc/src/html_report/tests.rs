use super::*;

fn pair() -> Pair {
    let histogram = Histogram { low: -1.0, high: 1.0, counts: vec![1, 5, 0, 2] };
    Pair { before: histogram.clone(), after: histogram }
}

fn layer(name: &str) -> Layer {
    Layer {
        name: name.into(),
        op: "linear".into(),
        weights: "int8".into(),
        weight_sqnr_db: Some(31.5),
        weight_histograms: Some(pair()),
        ..Layer::default()
    }
}

fn page(layers: Vec<Layer>) -> String {
    render(&Report { title: "model".into(), layers, ..Report::default() })
}

#[test]
fn names_are_text_and_never_markup() {
    let hostile = "</script><script>alert(1)</script>";
    let page = render(&Report {
        title: hostile.into(),
        summary: vec![(hostile.into(), hostile.into())],
        layers: vec![Layer {
            op: hostile.into(),
            shape: hostile.into(),
            requested_weights: hostile.into(),
            requested_activations: hostile.into(),
            activations: hostile.into(),
            note: Some(hostile.into()),
            output_sqnr_db: Some(1.0),
            depth_sqnr_db: Some(1.0),
            ..layer(hostile)
        }],
        sensitivities: vec![Sensitivity { layer: hostile.into(), loss: 1.0 }],
        kept: vec![(hostile.into(), hostile.into(), hostile.into())],
        warnings: vec![hostile.into()],
    });
    assert!(!page.contains("alert(1)<"), "the name stands in the page as markup");
    assert!(page.contains("&lt;script&gt;alert(1)"), "the name does not show");
    assert_eq!(page.matches("<script").count(), 2, "the page has scripts that it should not have");
    assert!(page.contains(r#"data-sort="&lt;"#), "attributes are escaped too");
}

#[test]
fn what_is_not_finite_shows_and_breaks_nothing() {
    let values = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 20.0];
    let odd = Histogram { low: f64::NAN, high: f64::INFINITY, counts: vec![1] };
    let layers = values.map(|value| Layer {
        weight_sqnr_db: Some(value),
        depth_sqnr_db: Some(value),
        bits_per_weight: Some(value),
        seconds: Some(value),
        weight_histograms: Some(Pair { before: odd.clone(), after: odd.clone() }),
        ..layer("fc")
    });
    let page = page(layers.to_vec());
    let page = page.split("<body>").nth(1).expect("invariant: a page has a body");
    let page = page.split("<script>").next().expect("invariant: a split has a first part");
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number that is none stands in the page");
    assert!(page.contains(r#"data-sort="Infinity">exact</td>"#));
    assert!(page.contains("[[null,null],[null,null],[null,null],[null,null]]"));
    assert!(page.contains(r#"<path class="line" d="M3.5"#), "the line is drawn where there are numbers");
}

#[test]
fn constant_and_exact_values_have_an_axis() {
    for value in [0.0, 17.25, f64::INFINITY] {
        let page = page(vec![Layer { depth_sqnr_db: Some(value), ..layer("fc") }; 3]);
        assert!(!page.contains("NaN") && page.contains(r#"id="depth-title""#), "no plot of {value}");
    }
    let close = [20.1, 20.9].map(|value| Layer { depth_sqnr_db: Some(value), ..layer("fc") });
    assert!(page(close.to_vec()).contains(">20.6</span>"), "labels are as short as the step allows");
}

#[test]
fn an_empty_report_is_a_page() {
    let page = render(&Report::default());
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("The model has no layers."));
    for part in ["class=\"plot\"", "class=\"bars\"", "class=\"warnings\"", "id=\"layers\""] {
        assert!(!page.contains(part), "{part} has nothing to show");
    }
}

#[test]
fn headers_sort_and_cells_say_by_what() {
    let page =
        page(vec![Layer { bytes: 2048, ..layer("fc") }, Layer { weight_sqnr_db: None, ..layer("head") }]);
    assert!(
        page.contains(
            r#"<th scope="col" aria-sort="none"><button type="button" disabled>Layer</button></th>"#
        )
    );
    assert!(page.contains(r#"aria-sort="none" class="number" data-number"#));
    assert!(page.contains(r#"<td class="number" data-sort="2048">2.0 KiB</td>"#));
    assert!(page.contains(r#"<td class="number" data-sort="31.5">31.5</td>"#));
    assert!(page.contains("<td class=\"number\">–</td>"), "what is missing has nothing to sort by");
    assert!(!page.contains("Output SQNR"), "a column without values is left out");
}

#[test]
fn another_format_than_asked_for_is_marked() {
    let changed = Layer { requested_weights: "int4".into(), ..layer("fc") };
    assert!(page(vec![changed]).contains(r#"<del title="asked for">int4</del> <ins title="got">int8</ins>"#));
    assert!(!page(vec![layer("fc")]).contains("<del"), "nothing was asked for");
}

#[test]
fn many_bins_are_merged_and_keep_their_place() {
    let fine = Histogram { low: 0.0, high: 100.0, counts: vec![1; 100] };
    let json = histograms::json(&[Layer {
        weight_histograms: Some(Pair {
            before: fine.clone(),
            after: Histogram { counts: vec![1; 99], ..fine },
        }),
        ..Layer::default()
    }]);
    let ones = vec!["2"; 49].join(",");
    assert!(json.starts_with(&format!("[[[[0.0,100.0,[{ones},2]],")), "{json}");
    assert!(json.contains(&format!("[{ones},1]]")), "the last bin holds what is left: {json}");
}

#[test]
fn the_largest_loss_comes_first_and_what_is_unknown_last() {
    let sensitivities = [("a", f64::NAN), ("b", -0.5), ("c", 0.5), ("d", f64::INFINITY)]
        .map(|(layer, loss)| Sensitivity { layer: layer.into(), loss });
    let bars: Vec<String> = ranking::ranking(&sensitivities).iter().map(|bar| format!("{bar:?}")).collect();
    assert!(bars[0].contains(r#"layer: "d", loss: "∞", start: "50.00", width: "50.00""#), "{bars:?}");
    assert!(bars[2].contains(r#"layer: "b", loss: "-0.500 %", start: "0.00", width: "50.00""#), "{bars:?}");
    assert!(bars[3].contains(r#"layer: "a", loss: "–", start: "50.00", width: "0.00""#), "{bars:?}");
}

#[test]
fn a_report_gives_the_same_page_each_time_and_a_large_one_stays_small() {
    let counts: Vec<u64> = (0..2048).map(|i| 1_000_000 + i * i).collect();
    let histogram = Histogram { low: -1.0, high: 1.0, counts };
    let pair = Some(Pair { before: histogram.clone(), after: histogram });
    let layers = (0..500).map(|i| Layer {
        output_sqnr_db: Some(f64::from(i) * 0.1),
        depth_sqnr_db: Some(40.0 - f64::from(i) * 0.05),
        weight_histograms: pair.clone(),
        activation_histograms: pair.clone(),
        ..layer(&format!("model.layers.{i}.self_attention.output.dense"))
    });
    let layers: Vec<Layer> = layers.collect();
    let first = page(layers.clone());
    assert_eq!(first, page(layers));
    assert!(first.len() < 3_000_000, "{} bytes", first.len());
}

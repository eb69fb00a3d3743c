//! Token windows for perplexity and calibration, as GPTQ and llama.cpp cut them: the whole text is tokenized once,
//! cut into windows of `seq_len` tokens, and the incomplete last window is dropped. No BOS is added.

use std::path::Path;

use crate::error::{DataError, Result};
use crate::npy::NpyArray;
use crate::read;
use crate::tokenizer::Tokenizer;

/// Consecutive windows of exactly `seq_len` token ids. There is always at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWindows {
    ids: Vec<u32>,
    seq_len: usize,
}

impl TokenWindows {
    /// Cuts `ids`; `limit` keeps only the first windows.
    ///
    /// Errors: `seq_len` below 2 (a window of one token predicts nothing), a limit of 0, or fewer ids than one window.
    pub fn new(mut ids: Vec<u32>, seq_len: usize, limit: Option<usize>) -> Result<Self> {
        if seq_len < 2 {
            return Err(DataError::Request(format!(
                "windows of {seq_len} tokens predict nothing; use at least 2"
            )));
        }
        if limit == Some(0) {
            return Err(DataError::Request("a limit of 0 windows leaves nothing to measure".to_string()));
        }
        let windows = (ids.len() / seq_len).min(limit.unwrap_or(usize::MAX));
        if windows == 0 {
            return Err(DataError::Request(format!(
                "{} tokens are fewer than one window of {seq_len}; use a longer text or shorter windows",
                ids.len()
            )));
        }
        ids.truncate(windows * seq_len);
        Ok(TokenWindows { ids, seq_len })
    }

    /// Windows of a UTF-8 text file.
    pub fn from_text(
        path: &Path,
        tokenizer: &Tokenizer,
        seq_len: usize,
        limit: Option<usize>,
    ) -> Result<Self> {
        let ids = tokenizer.encode(&read::text(path)?)?;
        Self::new(ids, seq_len, limit).map_err(|error| located(path, error))
    }

    /// Windows of an integer `.npy` array of token ids; an array of several axes is read in row-major order.
    pub fn from_npy(path: &Path, seq_len: usize, limit: Option<usize>) -> Result<Self> {
        let ids = NpyArray::read(path)?.token_ids().map_err(|error| located(path, error))?;
        Self::new(ids, seq_len, limit).map_err(|error| located(path, error))
    }

    /// Tokens in a window.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Number of windows, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.ids.len() / self.seq_len
    }

    /// The windows in order, each `seq_len` ids.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u32> {
        self.ids.chunks_exact(self.seq_len)
    }

    /// All ids, window after window (row-major `[len, seq_len]`).
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of predictions: in each window tokens 1…n-1 from those before them.
    pub fn predicted_tokens(&self) -> usize {
        self.len() * (self.seq_len - 1)
    }
}

/// Adds the file to an error that does not know it.
fn located(path: &Path, error: DataError) -> DataError {
    match error {
        DataError::Request(reason) => DataError::malformed(path, reason),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::NpyData;

    #[test]
    fn the_incomplete_last_window_is_dropped() {
        let windows = TokenWindows::new((0..11).collect(), 4, None).unwrap();
        assert_eq!(windows.iter().collect::<Vec<_>>(), [&[0, 1, 2, 3][..], &[4, 5, 6, 7]]);
        assert_eq!((windows.len(), windows.predicted_tokens()), (2, 6));
    }

    #[test]
    fn the_limit_keeps_the_first_windows() {
        let windows = TokenWindows::new((0..11).collect(), 3, Some(2)).unwrap();
        assert_eq!(windows.ids(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(TokenWindows::new((0..11).collect(), 3, Some(usize::MAX)).unwrap().len(), 3);
    }

    #[test]
    fn too_few_tokens_are_an_error_that_says_so() {
        let error = TokenWindows::new(vec![1, 2], 3, None).unwrap_err().to_string();
        assert_eq!(error, "2 tokens are fewer than one window of 3; use a longer text or shorter windows");
        assert!(TokenWindows::new(vec![1, 2], 1, None).is_err());
        assert!(TokenWindows::new(vec![1, 2], 0, None).is_err());
        assert!(TokenWindows::new(vec![1, 2], 2, Some(0)).is_err());
    }

    #[test]
    fn token_arrays_are_cut_like_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        NpyArray::new(vec![2, 3], NpyData::I64(vec![5, 6, 7, 8, 9, 10])).unwrap().write(&path).unwrap();
        let windows = TokenWindows::from_npy(&path, 2, Some(2)).unwrap();
        assert_eq!(windows.ids(), [5, 6, 7, 8]);
        NpyArray::new(vec![2], NpyData::I64(vec![5, -1])).unwrap().write(&path).unwrap();
        let error = TokenWindows::from_npy(&path, 2, None).unwrap_err().to_string();
        assert!(error.ends_with("ids.npy: element 1 is -1, which is not a token id"), "{error}");
    }
}

//! "Did you mean": the nearest of the names one could have meant.

/// `; did you mean …?` for the candidate nearest to `name`, or nothing when none is near.
pub fn near_match<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // A very long name is near to nothing, and the distance takes time in its length.
    let length = name.chars().take(65).count();
    if length > 64 {
        return String::new();
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + length.min(candidate.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::near_match;

    #[test]
    fn the_nearest_name_is_offered() {
        let names = ["softmax", "softplus", "silu"];
        assert_eq!(near_match("sofmax", names), "; did you mean `softmax`?");
        assert_eq!(near_match("convolution", names), "");
        assert_eq!(near_match(&"x".repeat(1 << 20), names), "");
    }
}

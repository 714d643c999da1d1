//! Suggests the known word that was probably meant by an unknown one.

/// How similar two words must be for one to be suggested for the other, from 0 to 1.
const ALIKE: f64 = 0.85;

/// The known word that was most likely meant, if one is similar enough. The right name in the wrong section is similar
/// too.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_lowercase();
    let alike = |a: &str, b: &str| {
        strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
            .max(strsim::jaro_winkler(&last(a), &last(b)) - 0.02)
    };
    let near = known.map(|known| (alike(word, known), known)).filter(|(score, _)| *score > ALIKE);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// The known word from which this one differs by at most two letters. It is for words that may also belong to
/// another program.
pub fn misspelt<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let far = known.map(|known| (strsim::damerau_levenshtein(word, known), known));
    far.filter(|(letters, _)| (1..=2).contains(letters))
        .min_by_key(|(letters, _)| *letters)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_word_is_suggested_and_another_is_not() {
        let known = ["cpu_policy", "filter_scheduler.host_subset_size"];
        assert_eq!(nearest("cpu_polcy", known.into_iter()), Some("cpu_policy"));
        assert_eq!(nearest("scheduler.host_subset_size", known.into_iter()), Some(known[1]));
        assert_eq!(nearest("rack", known.into_iter()), None);
        let own = ["instance_type", "availability_zone"];
        assert_eq!(misspelt("availabilty_zone", own.into_iter()), Some(own[1]));
        assert_eq!(misspelt("instance_group", own.into_iter()), None);
    }
}

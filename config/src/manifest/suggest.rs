//! "Did you mean …?"

/// What to do about a word that isn't among the known ones.
pub(super) fn remedy<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    let slips = known.iter().map(|known| (slips(word, known), known));
    match slips.min() {
        Some((slips, best)) if slips <= (best.len() / 3).max(1) => format!("did you mean {best}?"),
        Some(_) => format!("known here: {}", known.join(", ")),
        None => "remove it".to_owned(),
    }
}

/// How many letters are wrong, missing, too many or swapped. Case doesn't count: `publicservice` is one slip.
fn slips(word: &str, known: &str) -> usize {
    strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase())
}

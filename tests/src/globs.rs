//! What a pattern of names or paths matches, by definition alone: every split of every part is tried, each once. For
//! comparison with the fast implementation.

/// Whether a pattern matches this text. `**` matches any number of segments, at the end one or more; `*` matches
/// characters of a segment, `?` one of them.
pub fn means(pattern: &str, text: &str) -> bool {
    let (pattern, segments): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), text.split('/').collect());
    is_split(pattern.len(), segments.len(), |at, from, left, means| match pattern[at] {
        "**" if at + 1 == pattern.len() => left,
        "**" => means[at + 1][from] || left && means[at][from + 1],
        segment => left && means_segment(segment, segments[from]) && means[at + 1][from + 1],
    })
}

fn means_segment(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    is_split(pattern.len(), text.len(), |at, from, left, means| match pattern[at] {
        '*' => means[at + 1][from] || left && means[at][from + 1],
        '?' => left && means[at + 1][from + 1],
        c => left && text[from] == c && means[at + 1][from + 1],
    })
}

/// Whether the steps match the parts. `step` answers for the steps from one index and the parts from one index, and
/// whether parts are left; it is given the answers for all later indices.
fn is_split(steps: usize, parts: usize, step: impl Fn(usize, usize, bool, &[Vec<bool>]) -> bool) -> bool {
    let mut means = vec![vec![false; parts + 1]; steps + 1];
    means[steps][parts] = true;
    for at in (0..steps).rev() {
        for from in (0..=parts).rev() {
            means[at][from] = step(at, from, from < parts, &means);
        }
    }
    means[0][0]
}

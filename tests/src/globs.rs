//! What a pattern of names or paths means, by its definition alone: every split of
//! every part is tried, each once. For comparison with what is fast.

/// Whether a pattern means this text: `**` any number of segments, at the end one
/// or more, `*` characters of a segment, `?` one of them.
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

/// Whether so many steps mean so many parts. `step` says it of the steps from one on
/// and the parts from one on, if there are any left, once it is known of all that are
/// behind.
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

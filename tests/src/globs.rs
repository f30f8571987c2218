//! What a pattern of names or paths means, by its definition alone: every split of
//! every part is tried, each once. For comparison with what is fast.

/// Whether a pattern means this text: `**` any number of segments, at the end one
/// or more, `*` characters of a segment, `?` one of them.
pub fn means(pattern: &str, text: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let segments: Vec<&str> = text.split('/').collect();
    let (steps, length) = (pattern.len(), segments.len());
    let mut table = vec![vec![false; length + 1]; steps + 1];
    table[steps][length] = true;
    for at in (0..steps).rev() {
        for from in (0..=length).rev() {
            let one = from < length;
            table[at][from] = match pattern[at] {
                "**" if at + 1 == steps => one,
                "**" => table[at + 1][from] || one && table[at][from + 1],
                segment => one && means_segment(segment, segments[from]) && table[at + 1][from + 1],
            };
        }
    }
    table[0][0]
}

fn means_segment(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (steps, length) = (pattern.len(), text.len());
    let mut table = vec![vec![false; length + 1]; steps + 1];
    table[steps][length] = true;
    for at in (0..steps).rev() {
        for from in (0..=length).rev() {
            let one = from < length;
            table[at][from] = match pattern[at] {
                '*' => table[at + 1][from] || one && table[at][from + 1],
                '?' => one && table[at + 1][from + 1],
                c => one && text[from] == c && table[at + 1][from + 1],
            };
        }
    }
    table[0][0]
}

//! The page for clients that do not read OpenMetrics.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Converts a page of OpenMetrics to Prometheus text 0.0.4, in which a counter has the name of its
/// sample, and which has no lines for units and for the end.
pub(crate) fn prometheus_text(page: &str) -> String {
    let kind = |line: &'_ str| {
        line.strip_prefix("# TYPE ")?.split_once(' ').map(|(name, kind)| (name.to_string(), kind == "counter"))
    };
    let counters: BTreeSet<String> =
        page.lines().filter_map(kind).filter_map(|(name, is_counter)| is_counter.then_some(name)).collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let said =
            ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?.split_once(' ')?)));
        // Writing to a string cannot fail.
        let _ = match said {
            Some((word, (name, rest))) if counters.contains(name) => writeln!(text, "{word}{name}_total {rest}"),
            Some(_) | None => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::prometheus_text;

    #[test]
    fn a_counter_is_called_as_its_sample() {
        let page = "# HELP arcp_sent_bytes Written.\n# TYPE arcp_sent_bytes counter\n# UNIT arcp_sent_bytes bytes\n\
                    arcp_sent_bytes_total 3\n# HELP arcp_jobs Jobs.\n# TYPE arcp_jobs gauge\narcp_jobs{agent=\"a\"} 1\n# EOF\n";
        let text = "# HELP arcp_sent_bytes_total Written.\n# TYPE arcp_sent_bytes_total counter\narcp_sent_bytes_total 3\n\
                    # HELP arcp_jobs Jobs.\n# TYPE arcp_jobs gauge\narcp_jobs{agent=\"a\"} 1\n";
        assert_eq!(prometheus_text(page), text);
    }
}

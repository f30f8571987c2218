//! The paths that one rule of the kernel can name: a folder with all below it, or a file.

use std::fmt;
use std::path::PathBuf;

use arcp_proto::lease::Pattern;
use serde::{Deserialize, Serialize};

/// The paths of one rule of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hierarchy {
    /// Everything below this folder. The folder itself can be listed.
    Below(PathBuf),
    /// This file; it must not be a folder.
    File(PathBuf),
}

impl Hierarchy {
    /// The hierarchy that a pattern of paths means; `None` if it means no hierarchy.
    ///
    /// ```
    /// use arcp_host::sandbox::Hierarchy;
    /// use arcp_proto::lease::{Namespace, Pattern};
    /// let of = |text| Pattern::new(&Namespace::FsRead, text).map(|pattern| Hierarchy::of(&pattern));
    /// assert_eq!(of("/srv/a/**")?, Some(Hierarchy::Below("/srv/a".into())));
    /// assert_eq!(of("/srv/a.txt")?, Some(Hierarchy::File("/srv/a.txt".into())));
    /// assert_eq!(of("/srv/*.txt")?, None);
    /// # Ok::<(), arcp_proto::lease::Refused>(())
    /// ```
    pub fn of(pattern: &Pattern) -> Option<Hierarchy> {
        let text = pattern.as_str();
        // `/a/**/**` means the same as `/a/**`.
        let folder = text.trim_end_matches("/**");
        match folder {
            _ if !text.starts_with('/') || folder.contains(['*', '?']) => None,
            "" => Some(Hierarchy::Below("/".into())),
            _ if folder.len() < text.len() => Some(Hierarchy::Below(folder.into())),
            file => Some(Hierarchy::File(file.into())),
        }
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hierarchy::Below(folder) => write!(f, "{} and all below it", folder.display()),
            Hierarchy::File(file) => write!(f, "{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arcp_proto::lease::{Namespace, Target};

    use super::*;

    /// Whether a rule for this hierarchy allows a path, if there are no links and a path that is
    /// named as a file is one.
    fn holds(hierarchy: &Hierarchy, path: &Path) -> bool {
        match hierarchy {
            Hierarchy::Below(folder) => path != folder && path.starts_with(folder),
            Hierarchy::File(file) => path == file,
        }
    }

    /// Every path of up to `most` of these segments.
    fn paths(segments: &[&str], most: usize) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut longest = vec![String::new()];
        for _ in 0..most {
            longest = longest.iter().flat_map(|path| segments.iter().map(move |s| format!("{path}/{s}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    #[test]
    fn what_a_hierarchy_allows_its_pattern_means_and_the_other_way_round() {
        let (mut exact, mut finer) = (0, 0);
        let worlds = paths(&["a", "b", "ab", "a.txt"], 4);
        for text in paths(&["a", "ab", "*", "?", "a*", "*.txt", "**"], 4) {
            let pattern = Pattern::new(&Namespace::FsRead, &text).expect("a pattern");
            let Some(hierarchy) = Hierarchy::of(&pattern) else {
                finer += 1;
                continue;
            };
            exact += 1;
            for path in &worlds {
                let target = Target::new(&Namespace::FsRead, path).expect("a path");
                assert_eq!(holds(&hierarchy, Path::new(path)), pattern.matches(&target), "{text} on {path}");
            }
        }
        assert!(exact > 30 && finer > 1000, "both are there: {exact}, {finer}");
    }

    #[test]
    fn what_is_finer_than_a_hierarchy_is_none() {
        let of = |text| Hierarchy::of(&Pattern::new(&Namespace::FsWrite, text).expect("a pattern"));
        for finer in ["/srv/*", "/srv/*.txt", "/srv/**/a", "/srv/?/**", "/*/**", "/**/a", "/srv/a?"] {
            assert_eq!(of(finer), None, "{finer}");
        }
        assert_eq!(of("/**"), Some(Hierarchy::Below("/".into())));
        assert_eq!(of("/srv/**/**"), Some(Hierarchy::Below("/srv".into())));
        assert_eq!(of("/"), Some(Hierarchy::File("/".into())), "a folder that is named is no grant of what is below");
        let tool = Pattern::new(&Namespace::ToolCall, "search/**").expect("a pattern");
        assert_eq!(Hierarchy::of(&tool), None, "no path");
    }
}

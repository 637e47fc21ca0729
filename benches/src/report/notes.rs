//! Remarks that people write about rows: `docs/benchmarks/notes.md`, one section for each row.

use std::collections::BTreeMap;

/// The text below each `## row` heading. What stands before the first is for the writers of notes.
pub(crate) fn sections(text: &str) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            current = Some(name.trim().to_owned());
        } else if let Some(name) = &current {
            let section = sections.entry(name.clone()).or_default();
            section.push_str(line);
            section.push('\n');
        }
    }
    sections.values_mut().for_each(|section| *section = section.trim().to_owned());
    sections.retain(|_, section| !section.is_empty());
    sections
}

#[cfg(test)]
mod tests {
    #[test]
    fn notes_are_found_by_the_name_of_their_row() {
        let text = "# Notes\nfor writers\n\n## first\n\nOne.\n\nTwo.\n## again\n\n## restore\nThree.\n";
        let sections = super::sections(text);
        assert_eq!(sections.keys().collect::<Vec<_>>(), ["first", "restore"]);
        assert_eq!(sections["first"], "One.\n\nTwo.");
    }
}

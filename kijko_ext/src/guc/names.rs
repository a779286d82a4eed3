//! Settings that list names.

/// Names as in other list settings: unquoted ones fold to lower case, "Quoted" ones are kept.
pub fn split_names(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            match name
                .strip_prefix('"')
                .and_then(|name| name.strip_suffix('"'))
            {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => name.to_lowercase(),
            }
        })
        .collect()
}

#[cfg(test)]
mod unit {
    use super::split_names;

    #[test]
    fn names_are_split_folded_and_unquoted() {
        assert_eq!(
            split_names(" Authenticator, \"Mixed\" ,,x"),
            ["authenticator", "Mixed", "x"]
        );
        assert!(split_names("").is_empty());
    }
}

//! `$(NAME)` in commands, arguments and variables: pure.

/// Replaces `$(NAME)` by what `value` gives for it. An unknown name stays as it is written; `$$` is a dollar sign.
pub(super) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(literal) = after.strip_prefix('$') {
            expanded.push('$');
            rest = literal;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match value(name) {
                Some(value) => expanded.push_str(&value),
                None => {
                    expanded.push_str("$(");
                    expanded.push_str(name);
                    expanded.push(')');
                }
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::expand;

    #[test]
    fn names_in_parentheses_are_replaced_and_everything_else_stays() {
        let value = |name: &str| (name == "POD_IP").then(|| "127.127.0.9".to_owned());
        for (written, expected) in [
            ("$(POD_IP):9090", "127.127.0.9:9090"),
            ("$(POD_IP)$(POD_IP)", "127.127.0.9127.127.0.9"),
            ("$(OTHER)", "$(OTHER)"),
            ("$$(POD_IP)", "$(POD_IP)"),
            ("$$$(POD_IP)", "$127.127.0.9"),
            ("$POD_IP $( $", "$POD_IP $( $"),
            ("", ""),
        ] {
            assert_eq!(expand(written, value), expected, "{written}");
        }
    }
}

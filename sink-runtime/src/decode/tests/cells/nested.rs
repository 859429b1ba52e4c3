//! Structs, lists and maps.

use RejectClass::MissingField;

use super::*;

#[test]
fn structs_lists_and_maps_nest() {
    let point = Type::Struct(vec![
        Field::required("x", Type::Int),
        Field::optional("y", Type::Int),
    ]);
    check(
        &point,
        None,
        &[
            (r#"{"x":1,"y":2}"#, Ok("{x: 1, y: 2}")),
            (r#"{ "y" : 2 , "x" : 1 }"#, Ok("{x: 1, y: 2}")),
            (r#"{"x":1,"z":[{}]}"#, Ok("{x: 1, y: }")),
            (r#"{"x":0,"x":1}"#, Ok("{x: 1, y: }")),
            (r#"{"y":2}"#, Err(MissingField)),
            (r#"{"x":null}"#, Err(MissingField)),
            (r#"{}"#, Err(MissingField)),
            (r#"{"x":"1"}"#, Err(TypeMismatch)),
            (r#"{"x":1,}"#, Err(Malformed)),
            (r#"{"x" 1}"#, Err(Malformed)),
            ("[]", Err(TypeMismatch)),
        ],
    );
    let list = Type::List(Box::new(Field::optional("element", point.clone())));
    check(
        &list,
        None,
        &[
            ("[]", Ok("[]")),
            (
                r#"[{"x":1},null,{"x":2,"y":3}]"#,
                Ok("[{x: 1, y: }, , {x: 2, y: 3}]"),
            ),
            (r#"[{"x":1},{}]"#, Err(MissingField)),
            (r#"[{"x":1}"#, Err(Malformed)),
            (r#"[,]"#, Err(Malformed)),
            ("{}", Err(TypeMismatch)),
        ],
    );
    check(
        &Type::List(Box::new(Field::required("element", Type::Int))),
        None,
        &[("[1,null]", Err(MissingField))],
    );
    let map = Type::Map(Box::new(Field::optional("value", list)));
    check(
        &map,
        None,
        &[
            ("{}", Ok("{}")),
            (r#"{"a":[{"x":1}],"b":null}"#, Ok("{a: [{x: 1, y: }], b: }")),
            (
                r#"{"a":[],"b":null,"a":[{"x":1}]}"#,
                Ok("{b: , a: [{x: 1, y: }]}"),
            ),
            (r#"{"a":[1]}"#, Err(TypeMismatch)),
            ("[]", Err(TypeMismatch)),
        ],
    );
}

#[test]
fn the_last_of_many_duplicate_map_keys_wins() {
    let map = Field::optional(
        "v",
        Type::Map(Box::new(Field::optional("value", Type::Int))),
    );
    let entries: Vec<String> = (0..40).map(|i| format!("\"k{}\":{i}", i % 20)).collect();
    let found = cell(&map, &format!("{{{}}}", entries.join(","))).unwrap();
    assert!(found.starts_with("{k0: 20, k1: 21,"), "{found}");
    assert!(found.ends_with("k19: 39}"), "{found}");
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let plan = declared(vec![], UnknownFields::Ignore);
    let record = |depth| format!("{{\"u\":{}}}", nested(depth));
    let decoded = decode(&plan, &raw([record(127), record(128), "[".repeat(100_000)]));
    assert_eq!(classes(&decoded), [(1, Malformed), (2, Malformed)]);
}

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use proptest::prelude::*;

use super::*;
use crate::schema::{Field, Type as Ours};

const ALL: Evolution = Evolution {
    add_columns: true,
    widen: true,
    make_optional: true,
    recreate_columns: false,
};
const NOTHING: Evolution = Evolution {
    add_columns: false,
    widen: false,
    make_optional: false,
    recreate_columns: false,
};

mod prediction;

fn columns(fields: Vec<Field>) -> Schema {
    Schema { fields }
}

fn base() -> Schema {
    columns(vec![
        Field::required("id", Ours::Int),
        Field::optional(
            "nested",
            Ours::Struct(vec![Field::optional("a", Ours::String)]),
        ),
        Field::optional(
            "items",
            Ours::List(Box::new(Field::optional(
                "element",
                Ours::Struct(vec![Field::optional("sku", Ours::String)]),
            ))),
        ),
        Field::optional(
            "by_day",
            Ours::Map(Box::new(Field::optional(
                "value",
                Ours::Struct(vec![Field::optional("n", Ours::Int)]),
            ))),
        ),
    ])
}

fn plan(
    base: &Schema,
    wanted: &Schema,
    policy: Evolution,
) -> Result<Option<NewSchema>, Incompatible> {
    plan_evolution(&table(base), wanted, policy)
}

/// A table of these columns that never had others.
fn table(columns: &Schema) -> TableColumns {
    let schema = to_iceberg(columns).unwrap();
    TableColumns {
        last_column_id: schema.highest_field_id(),
        schema: Arc::new(schema),
        former: Arc::default(),
        partition_fields: Arc::default(),
    }
}

/// Of a table without partitions; `sources` as if it had some.
fn reconcile(
    base: &IcebergSchema,
    last_column_id: i32,
    written: &IcebergSchema,
    sources: &[i32],
) -> Result<Option<NewSchema>, SchemaMoved> {
    let names = &BTreeSet::new();
    super::reconcile(base, last_column_id, written, Partitions { sources, names })
}

fn changes(base: &Schema, wanted: &Schema) -> Vec<String> {
    plan(base, wanted, ALL).unwrap().map_or_else(Vec::new, |p| {
        p.changes.iter().map(ToString::to_string).collect()
    })
}

#[test]
fn wanting_what_is_there_changes_nothing() {
    assert!(plan(&base(), &base(), NOTHING).unwrap().is_none());
}

// T20
#[test]
fn structs_inside_structs_lists_and_maps_gain_fields() {
    let mut wanted = base();
    let grow = |field: &mut Field| match &mut field.ty {
        Ours::Struct(fields) => fields.push(Field::optional("new", Ours::Long)),
        Ours::List(inner) | Ours::Map(inner) => match &mut inner.ty {
            Ours::Struct(fields) => fields.push(Field::optional("new", Ours::Long)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    wanted.fields[1..].iter_mut().for_each(grow);
    // id nested items by_day | a | element sku | key value n
    assert_eq!(
        changes(&base(), &wanted),
        [
            "add \"nested.new\" long (id 11)",
            "add \"items.element.new\" long (id 12)",
            "add \"by_day.value.new\" long (id 13)",
        ]
    );
}

#[test]
fn an_empty_struct_gains_fields() {
    let have = columns(vec![Field::optional("s", Ours::Struct(vec![]))]);
    let want = columns(vec![Field::optional(
        "s",
        Ours::Struct(vec![Field::optional("x", Ours::Int)]),
    )]);
    assert_eq!(changes(&have, &want), ["add \"s.x\" int (id 2)"]);
}

#[test]
fn ids_start_after_dropped_columns_too() {
    let have = TableColumns {
        last_column_id: 41,
        ..table(&columns(vec![Field::optional("a", Ours::Int)]))
    };
    let want = columns(vec![
        Field::optional("a", Ours::Int),
        Field::optional("b", Ours::Int),
    ]);
    let planned = plan_evolution(&have, &want, ALL).unwrap().unwrap();
    assert_eq!(planned.schema.field_id_by_name("b"), Some(42));
}

#[test]
fn a_column_is_widened_but_never_narrowed() {
    let int = columns(vec![Field::optional("n", Ours::Int)]);
    let long = columns(vec![Field::optional("n", Ours::Long)]);
    assert_eq!(changes(&int, &long), ["widen \"n\" from int to long"]);
    assert!(plan(&long, &int, ALL).unwrap().is_none());
    let text = columns(vec![Field::optional("n", Ours::String)]);
    let refused = plan(&int, &text, ALL).unwrap_err();
    assert_eq!(
        (refused.column.as_str(), refused.remedy),
        ("n", REMEDY_TYPE)
    );
}

#[test]
fn a_new_column_is_optional_whatever_the_records_promise() {
    let have = columns(vec![Field::optional("a", Ours::Int)]);
    let want = columns(vec![
        Field::optional("a", Ours::Int),
        Field::required("b", Ours::Int),
    ]);
    let planned = plan(&have, &want, ALL).unwrap().unwrap();
    assert!(!planned.schema.field_by_name("b").unwrap().required);
}

#[test]
fn a_required_column_that_no_record_carries_is_made_optional_only_by_leave() {
    let have = columns(vec![Field::required("id", Ours::Int)]);
    let want = columns(vec![]);
    assert_eq!(changes(&have, &want), ["make \"id\" optional"]);
    let refused = plan(&have, &want, NOTHING).unwrap_err();
    assert_eq!(refused.remedy, REMEDY_OPTIONAL);
}

#[test]
fn a_name_that_differs_only_in_case_is_refused() {
    let have = columns(vec![Field::optional("Id", Ours::Int)]);
    let want = columns(vec![
        Field::optional("Id", Ours::Int),
        Field::optional("id", Ours::Int),
    ]);
    assert_eq!(plan(&have, &want, ALL).unwrap_err().remedy, REMEDY_CASE);
}

#[test]
fn each_kind_of_change_needs_its_leave() {
    let have = columns(vec![Field::optional("n", Ours::Int)]);
    let wider = columns(vec![Field::optional("n", Ours::Long)]);
    let more = columns(vec![
        Field::optional("n", Ours::Int),
        Field::optional("m", Ours::Int),
    ]);
    assert_eq!(
        plan(&have, &wider, NOTHING).unwrap_err().remedy,
        REMEDY_WIDEN
    );
    assert_eq!(plan(&have, &more, NOTHING).unwrap_err().remedy, REMEDY_ADD);
}

// T21
#[test]
fn writers_that_met_the_columns_in_another_order_plan_the_same_ids() {
    let have = columns(vec![Field::optional("a", Ours::Int)]);
    let of = |names: [&str; 3]| columns(names.map(|n| Field::optional(n, Ours::Int)).to_vec());
    let one = plan(&have, &of(["a", "x", "y"]), ALL).unwrap().unwrap();
    let two = plan(&have, &of(["y", "a", "x"]), ALL).unwrap().unwrap();
    assert_eq!(one.schema, two.schema);
}

mod at_commit_time {
    use super::*;

    fn ice(fields: &[(&str, i32, PrimitiveType)]) -> IcebergSchema {
        IcebergSchema::builder()
            .with_fields(fields.iter().map(|(name, id, ty)| {
                Arc::new(NestedField::optional(
                    *id,
                    *name,
                    Type::Primitive(ty.clone()),
                ))
            }))
            .build()
            .unwrap()
    }
    use PrimitiveType::{Int, Long, String as Text};

    #[test]
    fn a_column_that_another_writer_added_with_the_same_id_needs_no_second_change() {
        let table = ice(&[("a", 1, Int), ("b", 2, Int)]);
        assert!(reconcile(&table, 2, &table, &[]).unwrap().is_none());
    }

    #[test]
    fn a_predicted_column_is_added_when_the_prediction_still_holds() {
        let table = ice(&[("a", 1, Int)]);
        let written = ice(&[("a", 1, Int), ("b", 2, Text)]);
        let planned = reconcile(&table, 1, &written, &[]).unwrap().unwrap();
        assert_eq!(planned.schema.field_id_by_name("b"), Some(2));
    }

    #[test]
    fn an_id_that_went_to_another_column_is_found_also_where_the_types_agree() {
        let written = ice(&[("a", 1, Int), ("b", 2, Text)]);
        for theirs in [Int, Text] {
            for table in [
                ice(&[("a", 1, Int), ("c", 2, theirs.clone())]),
                ice(&[("a", 1, Int), ("c", 2, theirs.clone()), ("b", 3, Text)]),
            ] {
                let last = table.highest_field_id();
                assert_eq!(reconcile(&table, last, &written, &[]).unwrap_err().id, 2);
            }
        }
    }

    #[test]
    fn two_columns_of_one_type_that_got_each_others_ids_are_found() {
        let written = ice(&[("a", 1, Int), ("x", 2, Text), ("y", 3, Text)]);
        let table = ice(&[("a", 1, Int), ("y", 2, Text), ("x", 3, Text)]);
        assert!(reconcile(&table, 3, &written, &[]).is_err());
    }

    /// A column `items` of this type, its id 1.
    fn items(ty: Type) -> IcebergSchema {
        let field = NestedField::optional(1, "items", ty);
        let fields = [Arc::new(field)];
        IcebergSchema::builder()
            .with_fields(fields)
            .build()
            .unwrap()
    }

    fn text(name: &str, id: i32) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, Type::Primitive(Text)))
    }

    #[test]
    fn an_inner_id_that_went_to_another_field_of_the_type_is_found() {
        let inner = |fields: Vec<NestedFieldRef>| Type::Struct(StructType::new(fields));
        let element = |id, ty| NestedField::optional(id, "element", ty).into();
        let value = |id, ty| NestedField::optional(id, "value", ty).into();
        let key = || NestedField::required(2, "key", Type::Primitive(Text)).into();
        let list = |fields| Type::List(ListType::new(element(2, inner(fields))));
        let map = |fields| Type::Map(MapType::new(key(), value(3, inner(fields))));
        let wraps: [&dyn Fn(Vec<NestedFieldRef>) -> Type; 3] = [&inner, &list, &map];
        for wrap in wraps {
            let written = items(wrap(vec![text("old", 7), text("mine", 8)]));
            let theirs = items(wrap(vec![text("old", 7), text("theirs", 8)]));
            assert_eq!(reconcile(&theirs, 8, &written, &[]).unwrap_err().id, 8);
            let both = items(wrap(vec![
                text("old", 7),
                text("theirs", 8),
                text("mine", 9),
            ]));
            assert_eq!(reconcile(&both, 9, &written, &[]).unwrap_err().id, 8);
            let mine = items(wrap(vec![text("old", 7)]));
            let planned = reconcile(&mine, 7, &written, &[]).unwrap().unwrap();
            assert_eq!(planned.schema.as_struct(), written.as_struct());
        }
    }

    #[test]
    fn a_dotted_name_is_not_the_field_of_a_struct() {
        let of = |fields: Vec<NestedFieldRef>| {
            IcebergSchema::builder()
                .with_fields(fields)
                .build()
                .unwrap()
        };
        let nested = StructType::new(vec![text("b", 3)]);
        let a = Arc::new(NestedField::optional(1, "a", Type::Struct(nested)));
        let empty = StructType::new(vec![text("c", 2)]);
        let bare = Arc::new(NestedField::optional(1, "a", Type::Struct(empty)));
        let written = of(vec![a]);
        let table = of(vec![bare, text("a.b", 3)]);
        assert!(reconcile(&table, 3, &written, &[]).is_err());
    }

    #[test]
    fn the_same_column_under_another_id_is_found() {
        let written = ice(&[("a", 1, Int), ("b", 2, Text)]);
        let table = ice(&[("a", 1, Int), ("b", 7, Text)]);
        assert_eq!(reconcile(&table, 7, &written, &[]).unwrap_err().id, 2);
    }

    #[test]
    fn a_column_that_was_renamed_meanwhile_is_found() {
        let written = ice(&[("a", 1, Int), ("c", 2, Text)]);
        let renamed = ice(&[("a", 1, Int), ("d", 2, Text)]);
        assert_eq!(reconcile(&renamed, 2, &written, &[]).unwrap_err().id, 2);
        let swapped = ice(&[("a", 1, Int), ("d", 3, Text), ("c", 2, Text)]);
        let both = ice(&[("a", 1, Int), ("d", 2, Text), ("c", 3, Text)]);
        assert!(reconcile(&swapped, 3, &both, &[]).is_err());
    }

    #[test]
    fn an_id_that_was_given_out_and_dropped_is_not_given_out_again() {
        let written = ice(&[("a", 1, Int), ("b", 2, Text)]);
        let table = ice(&[("a", 1, Int)]);
        assert_eq!(reconcile(&table, 2, &written, &[]).unwrap_err().id, 2);
        assert!(reconcile(&table, 1, &written, &[]).unwrap().is_some());
    }

    #[test]
    fn a_column_widened_meanwhile_takes_narrow_files_unless_it_partitions_them() {
        let written = ice(&[("a", 1, Int)]);
        let table = ice(&[("a", 1, Long)]);
        assert!(reconcile(&table, 1, &written, &[]).unwrap().is_none());
        assert_eq!(reconcile(&table, 1, &written, &[1]).unwrap_err().id, 1);
    }
}

fn any_columns() -> impl Strategy<Value = Schema> {
    let leaf = prop_oneof![
        Just(Ours::Int),
        Just(Ours::Long),
        Just(Ours::String),
        Just(Ours::Double)
    ];
    let ty = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..3).prop_map(|m| Ours::Struct(
                m.into_iter().map(|(n, t)| Field::optional(n, t)).collect()
            )),
            inner.prop_map(|t| Ours::List(Box::new(Field::optional("element", t)))),
        ]
    });
    prop::collection::btree_map("[a-f]", ty, 0..5).prop_map(|m| Schema {
        fields: m.into_iter().map(|(n, t)| Field::optional(n, t)).collect(),
    })
}

proptest! {
    #[test]
    fn an_evolved_table_keeps_every_old_id_and_then_holds_the_records(
        have in any_columns(), want in any_columns()
    ) {
        let table = table(&have);
        let (base, last) = (&table.schema, table.last_column_id);
        if let Ok(Some(planned)) = plan_evolution(&table, &want, ALL) {
            for (id, name) in base.field_id_to_name_map() {
                prop_assert_eq!(planned.schema.name_by_field_id(*id), Some(name.as_str()));
            }
            let evolved = table.evolved(planned.schema.clone());
            let again = plan_evolution(&evolved, &want, NOTHING).unwrap();
            prop_assert!(again.is_none());
            let at_commit = reconcile(base, last, &planned.schema, &[]).unwrap().unwrap();
            prop_assert_eq!(at_commit.schema, planned.schema);
        }
    }
}

#[test]
fn a_column_that_somebody_renamed_or_dropped_comes_back_only_by_leave() {
    let past = to_iceberg(&columns(vec![
        Field::optional("id", Ours::Int),
        Field::optional("comment", Ours::String),
        Field::optional("note", Ours::String),
    ]))
    .unwrap();
    let mut fields = past.as_struct().fields().to_vec();
    let mut renamed = NestedField::clone(&fields[1]);
    renamed.name = "remark".to_owned();
    fields[1] = Arc::new(renamed);
    fields.remove(2);
    let now = IcebergSchema::builder()
        .with_fields(fields)
        .build()
        .unwrap();
    let table = TableColumns {
        former: Arc::new(FormerColumns::between([&past], &now)),
        last_column_id: 3,
        schema: Arc::new(now),
        partition_fields: Arc::default(),
    };
    for (column, fate) in [("comment", "renamed to \"remark\""), ("note", "dropped")] {
        let want = columns(vec![Field::optional(column, Ours::String)]);
        let refused = plan_evolution(&table, &want, ALL).unwrap_err();
        assert_eq!(
            (refused.column.as_str(), refused.remedy),
            (column, REMEDY_FORMER)
        );
        assert!(refused.have.contains(fate), "{refused}");
        let recreate = Evolution {
            recreate_columns: true,
            ..ALL
        };
        let planned = plan_evolution(&table, &want, recreate).unwrap().unwrap();
        assert_eq!(planned.schema.field_id_by_name(column), Some(4));
    }
    // What was never there is new.
    let want = columns(vec![Field::optional("other", Ours::String)]);
    assert!(plan_evolution(&table, &want, ALL).unwrap().is_some());
}

#[test]
fn a_partition_fields_name_makes_no_column_in_a_plan_and_none_of_files_that_are_written() {
    let have = table(&columns(vec![Field::optional("id", Ours::Long)]));
    let more = ["id", "shard"].map(|name| Field::optional(name, Ours::Long));
    let wanted = columns(more.to_vec());
    let planned = plan_evolution(&have, &wanted, ALL).unwrap().unwrap();
    let written = have.evolved(planned.schema);
    assert!(written.over(&have, &[]).is_ok());

    let names = BTreeSet::from(["shard".to_owned()]);
    let by_now = TableColumns {
        partition_fields: Arc::new(names),
        ..have
    };
    let refused = plan_evolution(&by_now, &wanted, ALL).unwrap_err();
    assert_eq!(
        (refused.column.as_str(), refused.remedy),
        ("shard", REMEDY_PARTITION)
    );
    assert_eq!(written.over(&by_now, &[]).unwrap_err().column, "shard");
    // Who was first keeps the name: an identity field may have its column's.
    let both = TableColumns {
        partition_fields: Arc::clone(&by_now.partition_fields),
        ..written.clone()
    };
    assert!(plan_evolution(&both, &wanted, ALL).unwrap().is_none());
    assert!(written.over(&both, &[]).is_ok());
}

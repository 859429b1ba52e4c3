//! What paths and types cannot hold: paths are cut, rows are given back.

use super::*;

fn path_of(value: &str, limit: usize) -> String {
    let field = NestedField::optional(1, "c", Type::Primitive(PrimitiveType::String));
    let schema = Schema::builder()
        .with_fields([field.into()])
        .build()
        .unwrap();
    let values: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let batch = RecordBatch::try_new(table_schema(&schema).unwrap(), vec![values]);
    let spec = spec(&schema, &[("c", Transform::Identity)]);
    let mut layout = IcebergLayout::new(&schema, &spec).unwrap().within(limit);
    let slices = layout.split(&rows(batch.unwrap())).unwrap().slices;
    let value = PrimitiveLiteral::String(value.to_owned());
    assert_eq!(literals(&slices), [Some(value)], "the tuple is exact");
    slices[0].key.path.clone()
}

#[test]
fn a_path_is_cut_where_file_systems_would_not_take_it_and_values_stay_apart() {
    let fitting = "x".repeat(253);
    assert_eq!(path_of(&fitting, 700), format!("c={fitting}"));
    // One byte more; and 120 Chinese characters, of nine bytes each in a path.
    let (x, chinese) = ("x".repeat(254), "\u{4e2d}".repeat(120));
    for value in [&x, &"x".repeat(1500), &chinese] {
        let path = path_of(value, 700);
        assert!(path.len() <= 255 && path.len() > 230, "{path}");
        let (begin, hash) = path.rsplit_once('-').unwrap();
        assert_eq!(hash.len(), 16);
        // What is left are whole characters.
        let decoded = percent_encoding::percent_decode_str(begin).decode_utf8();
        let decoded = decoded.unwrap();
        assert!(value.starts_with(decoded.strip_prefix("c=").unwrap()));
        assert_ne!(path, path_of(&format!("{value}."), 700));
    }
}

#[test]
fn levels_that_do_not_fit_a_key_together_are_one_hash() {
    let levels = ["a", "b", "c"].map(|name| name.repeat(20));
    let path_of = |limit| human::path(&levels, limit);
    assert_eq!(path_of(62), levels.join("/"));
    for limit in 0..62 {
        assert!(path_of(limit).len() <= limit, "{limit}");
    }
    assert_eq!(path_of(15), "");
    assert_eq!(path_of(16).len(), 16);
    let cut = path_of(60);
    assert!(cut.starts_with(&format!("{}/{}/", levels[0], levels[1])));
    let others = ["a", "b", "d"].map(|name| name.repeat(20));
    assert_ne!(human::path(&others, 60), cut);
}

/// Values of `c` truncated to hundreds: the tuples, and the rows without one.
fn hundreds(ty: PrimitiveType, values: ArrayRef) -> (Vec<Option<PrimitiveLiteral>>, Vec<usize>) {
    let fields = [
        NestedField::optional(1, "n", Type::Primitive(PrimitiveType::Int)).into(),
        NestedField::optional(2, "c", Type::Primitive(ty)).into(),
    ];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let arrow = table_schema(&schema).unwrap();
    let n: ArrayRef = Arc::new(Int32Array::from_iter_values(0..values.len() as i32));
    let batch = RecordBatch::try_new(arrow, vec![n, values]).unwrap();
    let spec = spec(&schema, &[("c", Transform::Truncate(100))]);
    let split = IcebergLayout::new(&schema, &spec)
        .unwrap()
        .split(&rows(batch))
        .unwrap();
    for unfit in &split.unfit {
        assert_eq!(unfit.why.class, RejectClass::OutOfRange);
        assert!(unfit.why.message.contains("`c_p0`"), "{:?}", unfit.why);
    }
    let unfit = split.unfit.iter().map(|unfit| unfit.row).collect();
    (literals(&split.slices), unfit)
}

#[test]
fn a_value_whose_partition_its_type_cannot_hold_costs_only_its_own_row() {
    use PrimitiveLiteral as L;
    let least = i32::MIN + 48;
    let ints = [5, i32::MIN, -5, least, least - 1].map(Some);
    let ints = Int32Array::from_iter(ints.into_iter().chain([None]));
    let (tuples, unfit) = hundreds(PrimitiveType::Int, Arc::new(ints));
    let wanted = [
        Some(L::Int(0)),
        Some(L::Int(-100)),
        Some(L::Int(least)),
        None,
    ];
    assert_eq!(tuples, wanted);
    assert_eq!(unfit, [1, 4]);

    let longs = Int64Array::from(vec![i64::MIN, 250, i64::MAX]);
    let (tuples, unfit) = hundreds(PrimitiveType::Long, Arc::new(longs));
    assert_eq!(tuples, [Some(L::Long(200)), Some(L::Long(i64::MAX - 7))]);
    assert_eq!(unfit, [0]);

    // -9.99 becomes -10.00, which has a digit more than the column.
    let decimals = Decimal128Array::from(vec![-999, -100, 999]).with_precision_and_scale(3, 2);
    let ty = PrimitiveType::Decimal {
        precision: 3,
        scale: 2,
    };
    let (tuples, unfit) = hundreds(ty, Arc::new(decimals.unwrap()));
    assert_eq!(tuples, [Some(L::Int128(-100)), Some(L::Int128(900))]);
    assert_eq!(unfit, [0]);
}

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use iceberg::spec::{NestedField, PartitionSpec, PrimitiveType, Schema, Transform, Type};
use proptest::prelude::*;

use super::*;
use crate::catalog::TableOps;

fn manifest(name: &str, spec: i32, size: i64) -> ManifestFile {
    ManifestFile {
        manifest_path: name.to_owned(),
        manifest_length: size,
        partition_spec_id: spec,
        content: ManifestContentType::Data,
        sequence_number: 1,
        min_sequence_number: 1,
        added_snapshot_id: 1,
        added_files_count: Some(1),
        existing_files_count: Some(0),
        deleted_files_count: Some(0),
        added_rows_count: Some(1),
        existing_rows_count: Some(0),
        deleted_rows_count: Some(0),
        partitions: None,
        key_metadata: None,
        first_row_id: None,
    }
}

fn rules(properties: &[(&str, &str)]) -> Rules {
    let properties = properties.iter();
    Rules::of(
        &properties
            .map(|(key, value)| (format!("commit.manifest{key}"), (*value).to_owned()))
            .collect(),
    )
}

fn picked(manifests: &[ManifestFile], rules: Rules, added: usize) -> Vec<usize> {
    bin(manifests, rules, added, &BTreeSet::new())
}

#[test]
fn the_properties_are_the_usual_ones_with_the_usual_defaults() {
    let usual = Rules {
        enabled: true,
        min_count: 100,
        target: 8 << 20,
    };
    assert_eq!(rules(&[]), usual);
    assert_eq!(
        rules(&[(".min-count-to-merge", "many"), ("-merge.enabled", "TRUE")]),
        usual
    );
    assert_eq!(
        rules(&[
            (".min-count-to-merge", "1"),
            (".target-size-bytes", "999999999999"),
            ("-merge.enabled", "false"),
        ]),
        Rules {
            enabled: false,
            min_count: 2,
            target: LARGEST,
        }
    );
}

#[test]
fn the_newest_wait_for_enough_and_what_is_full_is_left() {
    let rules = rules(&[(".min-count-to-merge", "4"), (".target-size-bytes", "100")]);
    let list = |sizes: &[i64]| -> Vec<_> {
        let sizes = sizes.iter().enumerate();
        sizes
            .map(|(at, size)| manifest(&at.to_string(), 0, *size))
            .collect()
    };
    assert!(picked(&list(&[10, 10]), rules, 1).is_empty());
    assert_eq!(picked(&list(&[10, 10, 10]), rules, 1), [0, 1, 2]);
    assert!(picked(&list(&[10, 10, 10]), rules, 0).is_empty());
    // The oldest is full; with the next one it would be more.
    assert!(picked(&list(&[10, 10, 100]), rules, 1).is_empty());
    assert_eq!(
        picked(&list(&[10, 10, 10, 10, 100]), rules, 1),
        [0, 1, 2, 3]
    );
    // No new one fits any more: what is packed is not waited for.
    assert_eq!(picked(&list(&[10, 60, 60, 30]), rules, 1), [2, 3]);
    assert!(
        picked(
            &list(&[10; 50]),
            Rules {
                enabled: false,
                ..rules
            },
            1
        )
        .is_empty()
    );
}

#[test]
fn deletes_encrypted_ones_other_specs_and_those_left_alone_stay() {
    let rules = rules(&[(".min-count-to-merge", "2")]);
    let mut manifests: Vec<_> = (0..10)
        .map(|at| manifest(&at.to_string(), i32::from(at % 5 == 0), 10))
        .collect();
    manifests[1].content = ManifestContentType::Deletes;
    manifests[2].key_metadata = Some(vec![1]);
    let left_alone = BTreeSet::from(["3".to_owned()]);
    assert_eq!(bin(&manifests, rules, 1, &left_alone), [4, 6, 7, 8, 9]);
    manifests.truncate(6);
    assert_eq!(bin(&manifests, rules, 1, &left_alone), [0, 5]);
}

#[test]
fn a_merge_that_cannot_be_written_is_tried_less_and_less_often_until_one_is() {
    let tries = |left: &mut Left, commits: usize| {
        let commits = 0..commits;
        commits
            .filter(|_| {
                let tried = !left.rests();
                if tried {
                    left.failed();
                }
                tried
            })
            .count()
    };
    let mut left = Left::default();
    assert_eq!(tries(&mut left, 10), 3);
    let many = tries(&mut left, 6500);
    assert!((100..110).contains(&many), "{many}");
    left = Left {
        rested: 0,
        rest: 0,
        ..left
    };
    assert_eq!(tries(&mut left, 3), 2);
}

/// What is left alone after a commit with these manifests, which are nowhere, and the next one after it.
async fn left_after(manifests: &[ManifestFile], spec: Option<PartitionSpecRef>) -> [usize; 2] {
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
    let left_alone = LeftAlone::default();
    let properties = [("commit.manifest.min-count-to-merge".into(), "2".into())].into();
    let mut paths = Vec::new();
    let mut left = [0; 2];
    for left in &mut left {
        let merge = Merge {
            io: &crate::catalog::memory::MemoryTable::new("t").file_io(),
            version: FormatVersion::V2,
            schema: &Arc::new(schema.clone()),
            properties: &properties,
            left_alone: &left_alone,
            snapshot_id: 1,
            path: "memory:///merged.avro".to_owned(),
        };
        let carried = manifests.to_vec();
        let after = merge
            .apply(carried, true, |_| spec.clone(), &mut paths)
            .await;
        assert_eq!((after.as_slice(), paths.len()), (manifests, 0));
        *left = left_alone.0.lock().manifests.len();
    }
    left
}

#[tokio::test]
async fn what_cannot_be_merged_is_left_before_it_is_fetched_and_what_cannot_be_fetched_by_itself() {
    let manifests: Vec<_> = (0..5)
        .map(|at| manifest(&format!("memory:///nowhere/{at}"), 0, 10))
        .collect();
    let gone = NestedField::required(2, "gone", Type::Primitive(PrimitiveType::Long));
    let before = Schema::builder().with_fields([gone.into()]).build();
    let by_gone = PartitionSpec::builder(before.unwrap())
        .add_partition_field("gone", "gone", Transform::Identity)
        .and_then(iceberg::spec::PartitionSpecBuilder::build)
        .unwrap();
    assert_eq!(left_after(&manifests, Some(by_gone.into())).await, [5, 5]);
    assert_eq!(left_after(&manifests, None).await, [5, 5]);
    let plain = PartitionSpec::unpartition_spec();
    assert_eq!(left_after(&manifests, Some(plain.into())).await, [1, 2]);
}

proptest! {
    #[test]
    fn a_merge_is_bounded_and_manifests_do_not_grow_without_end(
        sizes in prop::collection::vec(1i64..40, 1..600), min_count in 2usize..20, target in 20u64..400,
    ) {
        let rules = Rules { enabled: true, min_count, target };
        let mut manifests: Vec<ManifestFile> = Vec::new();
        let mut total = 0;
        for (n, size) in sizes.into_iter().enumerate() {
            let bin = picked(&manifests, rules, 1);
            let weight: i64 = bin.iter().map(|at| manifests[*at].manifest_length).sum();
            prop_assert!(bin.len() != 1 && bin.is_sorted() && weight <= target as i64);
            if let Some(first) = bin.first().copied() {
                let merged = manifest(&format!("m{n}"), 0, weight);
                for at in bin.iter().rev() {
                    manifests.remove(*at);
                }
                manifests.insert(first.min(manifests.len()), merged);
            }
            manifests.insert(0, manifest(&n.to_string(), 0, size));
            total += size as u64;
            // Two neighbours that are full hold more than one target.
            let full = 2 * (total / target + 1);
            prop_assert!(manifests.len() as u64 <= full + min_count as u64 + 1, "{} of {total}", manifests.len());
        }
    }
}

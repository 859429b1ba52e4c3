//! Writers that predict ids for the columns they meet, each in its own order, and somebody else who changes the table in
//! between. A model without I/O, driven by seeds.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const STEPS: usize = 40;

/// How a commit is checked: the real thing, or one that a careless program might have.
type Check =
    fn(&IcebergSchema, i32, &IcebergSchema, &[i32]) -> Result<Option<NewSchema>, SchemaMoved>;

/// What happened over all runs, so that a model in which nothing happens is found out.
#[derive(Debug, Default)]
struct Tally {
    committed: usize,
    with_new_columns: usize,
    moved: usize,
    refused: usize,
    followed: usize,
    added: usize,
    renamed: usize,
    dropped: usize,
}

struct Writer {
    columns: TableColumns,
    /// The full names its uncommitted rows have values under.
    wrote: Vec<String>,
}

struct World {
    rng: StdRng,
    table: TableColumns,
    /// Every schema the table had.
    past: Vec<IcebergSchema>,
    writers: Vec<Writer>,
    tally: Tally,
}

impl World {
    fn new(seed: u64, writers: usize) -> Self {
        let table = table(&columns(vec![
            Field::optional("id", Ours::Long),
            Field::optional("s", Ours::Struct(vec![Field::optional("a", Ours::String)])),
        ]));
        let writer = || Writer {
            columns: table.clone(),
            wrote: Vec::new(),
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            writers: (0..writers).map(|_| writer()).collect(),
            past: Vec::new(),
            table,
            tally: Tally::default(),
        }
    }

    /// One name of few, mostly of one type: what is mixed up has to fit.
    fn field(&mut self) -> Field {
        let name = ["u", "v", "w", "x"][self.rng.random_range(0..4)];
        let ty = match self.rng.random_range(0..8) {
            0 => Ours::Long,
            _ => Ours::String,
        };
        Field::optional(name, ty)
    }

    /// One or two fields, at the top, in a struct, or in the elements of a list.
    fn record(&mut self) -> Schema {
        let fields: Vec<Field> = (0..self.rng.random_range(1..3))
            .map(|_| self.field())
            .collect();
        let mut fields = fields;
        fields.dedup_by(|a, b| a.name == b.name);
        let within = |ty| vec![Field::optional("s", ty)];
        match self.rng.random_range(0..4) {
            0 => columns(within(Ours::Struct(fields))),
            1 => {
                let element = Field::optional("element", Ours::Struct(fields));
                columns(vec![Field::optional("l", Ours::List(Box::new(element)))])
            }
            _ => columns(fields),
        }
    }

    fn write(&mut self, index: usize) {
        let record = self.record();
        let writer = &mut self.writers[index];
        match plan_evolution(&writer.columns, &record, ALL) {
            Ok(None) => {}
            Ok(Some(new)) => writer.columns = writer.columns.evolved(new.schema),
            Err(_) => {
                self.tally.refused += 1;
                return;
            }
        }
        let names = to_iceberg(&record).unwrap();
        let names = names.field_id_to_name_map().values().cloned();
        writer.wrote.extend(names);
    }

    /// The first value that a reader would find under another name than its own.
    fn commit(&mut self, index: usize, check: Check) -> Option<String> {
        let writer = &mut self.writers[index];
        let (schema, last) = (&self.table.schema, self.table.last_column_id);
        let mut misplaced = None;
        match check(schema, last, &writer.columns.schema, &[]) {
            Ok(planned) => {
                self.tally.committed += 1;
                if let Some(new) = planned {
                    self.tally.with_new_columns += 1;
                    self.past.push(IcebergSchema::clone(&self.table.schema));
                    self.table = self.table.evolved(new.schema);
                }
                // A reader goes by the ids in the files.
                misplaced = writer.wrote.drain(..).find(|name| {
                    let id = writer.columns.schema.field_id_by_name(name).unwrap();
                    self.table.schema.name_by_field_id(id) != Some(name)
                });
            }
            Err(_) => {
                self.tally.moved += 1;
                writer.wrote.clear();
            }
        }
        let seen = self.seen();
        let writer = &mut self.writers[index];
        if let Ok(columns) = writer.columns.over(&seen, &[]) {
            self.tally.followed += usize::from(!columns.agrees_with(&writer.columns));
            writer.columns = columns;
        } else {
            writer.columns = seen;
            writer.wrote.clear();
        }
        misplaced
    }

    /// The table with its history, as its metadata would tell.
    fn seen(&self) -> TableColumns {
        let former = FormerColumns::between(&self.past, &self.table.schema);
        TableColumns {
            former: Arc::new(former),
            ..self.table.clone()
        }
    }

    /// Somebody else adds, renames or drops a column, at the top or in the struct.
    fn foreign(&mut self) {
        let mut fields = self.table.schema.as_struct().fields().to_vec();
        let field = self.field();
        let inside = self.rng.random_bool(0.3);
        let nested = fields.iter().position(|f| f.name == "s").filter(|_| inside);
        let mut level = match nested.map(|at| &*fields[at].field_type) {
            Some(Type::Struct(inner)) => inner.fields().to_vec(),
            _ => fields.clone(),
        };
        let at = self.rng.random_range(0..level.len().max(1));
        let fixed = level
            .get(at)
            .is_none_or(|f| ["id", "s"].contains(&f.name.as_str()));
        let taken = level.iter().any(|f| f.name == field.name);
        match self.rng.random_range(0..4) {
            0 if !fixed => {
                self.tally.dropped += 1;
                level.remove(at);
            }
            1 if !fixed && !taken => {
                self.tally.renamed += 1;
                let mut renamed = NestedField::clone(&level[at]);
                renamed.name = field.name;
                level[at] = Arc::new(renamed);
            }
            _ if !taken => {
                self.tally.added += 1;
                self.table.last_column_id += 1;
                let ty = match field.ty {
                    Ours::Long => PrimitiveType::Long,
                    _ => PrimitiveType::String,
                };
                let id = self.table.last_column_id;
                level.push(NestedField::optional(id, field.name, Type::Primitive(ty)).into());
            }
            _ => return,
        }
        match nested {
            Some(at) => {
                let mut outer = NestedField::clone(&fields[at]);
                outer.field_type = Box::new(Type::Struct(StructType::new(level)));
                fields[at] = Arc::new(outer);
            }
            None => fields = level,
        }
        self.past.push(IcebergSchema::clone(&self.table.schema));
        let schema = IcebergSchema::builder()
            .with_fields(fields)
            .build()
            .unwrap();
        self.table.schema = Arc::new(schema);
    }

    fn run(mut self, check: Check) -> (Tally, Option<String>) {
        for _ in 0..STEPS {
            let index = self.rng.random_range(0..self.writers.len());
            match self.rng.random_range(0..10) {
                0..5 => self.write(index),
                5..9 => {
                    if let Some(misplaced) = self.commit(index, check) {
                        return (self.tally, Some(misplaced));
                    }
                }
                _ if self.writers.len() > 1 => self.foreign(),
                _ => {}
            }
        }
        (self.tally, None)
    }
}

#[test]
fn whatever_writers_and_others_add_rename_and_drop_a_value_is_under_its_own_name_or_read_again() {
    let mut all = Tally::default();
    for seed in 0..1500 {
        let (tally, misplaced) = World::new(seed, 3).run(reconcile);
        assert_eq!(misplaced, None, "seed {seed}");
        all.committed += tally.committed;
        all.with_new_columns += tally.with_new_columns;
        all.moved += tally.moved;
        all.refused += tally.refused;
        all.followed += tally.followed;
        all.added += tally.added;
        all.renamed += tally.renamed;
        all.dropped += tally.dropped;
    }
    let commits = all.committed + all.moved;
    let varied = all.with_new_columns * 20 > commits
        && all.moved * 50 > commits
        && all.moved * 2 < commits
        && all.refused > 500
        && all.followed > 500
        && all.added.min(all.renamed).min(all.dropped) > 200;
    assert!(varied, "{all:?}");
}

#[test]
fn a_writer_that_is_alone_never_reads_again_in_whatever_steps_it_met_its_columns() {
    let mut new = 0;
    for seed in 0..300 {
        let (tally, misplaced) = World::new(seed, 1).run(reconcile);
        assert_eq!((tally.moved, misplaced), (0, None), "seed {seed}");
        new += tally.with_new_columns;
    }
    assert!(new > 500, "{new}");
}

/// Ids and types agree, and nobody asks for names.
fn by_id(
    base: &IcebergSchema,
    last: i32,
    written: &IcebergSchema,
    _: &[i32],
) -> Result<Option<NewSchema>, SchemaMoved> {
    let known = |id: &i32| base.field_by_id(*id).is_some();
    if written.field_id_to_fields().keys().all(known) {
        return Ok(None);
    }
    reconcile(base, last, written, &[])
}

#[test]
fn the_model_finds_a_check_that_goes_by_ids_alone() {
    let found = (0..200).find_map(|seed| World::new(seed, 3).run(by_id).1);
    assert!(found.is_some());
}

//! Columns as Glue shows them, for engines and people that look there; Iceberg readers do not.

use std::collections::HashMap;

use aws_sdk_glue::types::Column;
use iceberg::spec::{PrimitiveType, Schema, Type};

use crate::catalog::CatalogError;
use crate::catalog::metadata_file::metadata_error;

/// Glue's limit on a column's comment.
const COMMENT_CHARS: usize = 255;

/// The columns of the current schema only: a name may stand but once.
pub(super) fn glue_columns(schema: &Schema) -> Result<Vec<Column>, CatalogError> {
    schema
        .as_struct()
        .fields()
        .iter()
        .map(|field| {
            let comment = field
                .doc
                .as_ref()
                .map(|doc| doc.chars().take(COMMENT_CHARS).collect());
            Column::builder()
                .name(&field.name)
                .r#type(glue_type(&field.field_type))
                .set_comment(comment)
                .set_parameters(Some(HashMap::from([
                    ("iceberg.field.id".to_owned(), field.id.to_string()),
                    (
                        "iceberg.field.optional".to_owned(),
                        (!field.required).to_string(),
                    ),
                    ("iceberg.field.current".to_owned(), "true".to_owned()),
                ])))
                .build()
                .map_err(|e| metadata_error("describe columns to Glue", e))
        })
        .collect()
}

fn glue_type(ty: &Type) -> String {
    match ty {
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => "boolean".to_owned(),
            PrimitiveType::Int => "int".to_owned(),
            PrimitiveType::Long => "bigint".to_owned(),
            PrimitiveType::Float => "float".to_owned(),
            PrimitiveType::Double => "double".to_owned(),
            PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            PrimitiveType::Date => "date".to_owned(),
            PrimitiveType::Time | PrimitiveType::String | PrimitiveType::Uuid => {
                "string".to_owned()
            }
            PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs => "timestamp".to_owned(),
            PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary".to_owned(),
        },
        Type::Struct(inner) => {
            let fields: Vec<String> = inner
                .fields()
                .iter()
                .map(|f| format!("{}:{}", f.name, glue_type(&f.field_type)))
                .collect();
            format!("struct<{}>", fields.join(","))
        }
        Type::List(list) => format!("array<{}>", glue_type(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{},{}>",
            glue_type(&map.key_field.field_type),
            glue_type(&map.value_field.field_type)
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::schema::iceberg::to_iceberg;
    use crate::schema::{Field, Schema as Ours, Type as T};

    #[test]
    fn every_type_has_its_glue_name() {
        let of = |ty: T| {
            let schema = to_iceberg(&Ours {
                fields: vec![Field::optional("c", ty)],
            })
            .unwrap();
            glue_columns(&schema).unwrap()[0].r#type.clone().unwrap()
        };
        assert_eq!(of(T::Timestamptz), "timestamp");
        assert_eq!(of(T::Uuid), "string");
        assert_eq!(of(T::Long), "bigint");
        assert_eq!(
            of(T::Decimal {
                precision: 9,
                scale: 2
            }),
            "decimal(9,2)"
        );
        assert_eq!(
            of(T::List(Box::new(Field::optional(
                "element",
                T::Struct(vec![
                    Field::optional("a", T::Int),
                    Field::optional("b", T::Map(Box::new(Field::optional("value", T::Time)))),
                ])
            )))),
            "array<struct<a:int,b:map<string,string>>>"
        );
    }

    #[test]
    fn columns_carry_their_field_ids_and_a_bounded_comment() {
        let mut field = Field::required("id", T::Int);
        field.doc = Some("x".repeat(300));
        let columns = glue_columns(
            &to_iceberg(&Ours {
                fields: vec![field],
            })
            .unwrap(),
        )
        .unwrap();
        let parameters = columns[0].parameters().unwrap();
        assert_eq!(parameters["iceberg.field.id"], "1");
        assert_eq!(parameters["iceberg.field.optional"], "false");
        assert_eq!(columns[0].comment().map(str::len), Some(255));
    }
}

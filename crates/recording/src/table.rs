//! A table: rows of one kind as a Parquet file, written and read a row group at a time.

use std::cell::Cell;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use crate::rows::Time;

/// Rows of a row group: a scan goes by whole groups, and a file's writer holds one.
const GROUP_ROWS: usize = 1 << 16;
/// Rows that a reader hands on at once.
const BATCH_ROWS: usize = 1 << 13;

/// A row of a table.
pub(crate) trait Row: Clone + PartialEq {
    /// The directory of its files.
    const TABLE: &'static str;
    /// The columns that bound when it was.
    const SPAN: [&'static str; 2];
    type Columns: Columns<Self>;
    type Sources: Sources<Self>;
    /// When it was, in the middle of its bounds.
    fn at(&self) -> Time;
    /// The bounds.
    fn span(&self) -> [Time; 2];
    fn fields() -> Result<Vec<(TypePtr, Option<Encoding>)>>;
}

/// The columns of rows on their way to a file.
pub(crate) trait Columns<R>: Default {
    fn push(&mut self, row: &R);
    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, File>) -> Result<()>;
}

/// The columns of a row group that is read.
pub(crate) trait Sources<R>: Sized {
    fn open(group: &dyn RowGroupReader, is_wanted: impl Fn(&str) -> bool) -> Result<Self>;
    fn fill(&mut self, rows: usize) -> Result<()>;
    fn next(&mut self) -> Option<R>;
}

pub(crate) fn next_column<'a>(
    group: &'a mut SerializedRowGroupWriter<'_, File>,
) -> Result<parquet::file::writer::SerializedColumnWriter<'a>> {
    group.next_column()?.ok_or_else(|| ParquetError::General("the schema has no such column".to_owned()))
}

/// A file that is being written.
pub(crate) struct TableWriter<R: Row> {
    file: File,
    writer: SerializedFileWriter<File>,
    columns: R::Columns,
    pending: usize,
}

impl<R: Row> TableWriter<R> {
    pub(crate) fn new(file: File) -> Result<TableWriter<R>> {
        let (schema, properties) = layout::<R>()?;
        let writer = SerializedFileWriter::new(file.try_clone()?, schema, properties)?;
        Ok(TableWriter { file, writer, columns: R::Columns::default(), pending: 0 })
    }

    pub(crate) fn push(&mut self, row: &R) -> Result<()> {
        self.columns.push(row);
        self.pending += 1;
        if self.pending >= GROUP_ROWS {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        self.columns.write(&mut group)?;
        group.close()?;
        self.pending = 0;
        Ok(())
    }

    /// Completes the file; it is the caller's to sync.
    pub(crate) fn finish(mut self) -> Result<File> {
        if self.pending > 0 {
            self.end_group()?;
        }
        // The writer's own way to give back its file tells a full disk as a text.
        self.writer.finish()?;
        Ok(self.file)
    }
}

fn layout<R: Row>() -> Result<(TypePtr, WriterPropertiesPtr)> {
    let fields = R::fields()?;
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("sockeye {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(None);
    for (field, encoding) in &fields {
        if let Some(encoding) = encoding {
            let column = ColumnPath::from(field.name());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, *encoding);
        }
    }
    let schema = Type::group_type_builder(R::TABLE)
        .with_fields(fields.into_iter().map(|(field, _)| field).collect())
        .build()?;
    Ok((Arc::new(schema), Arc::new(properties.build())))
}

/// A file that is read.
pub(crate) struct TableReader {
    file: SerializedFileReader<File>,
}

impl TableReader {
    pub(crate) fn open(file: File) -> Result<TableReader> {
        Ok(TableReader { file: guarded(|| SerializedFileReader::new(file))? })
    }

    /// The bounds of all rows' times, as its statistics tell them.
    pub(crate) fn span<R: Row>(&self) -> Option<[Time; 2]> {
        let groups = 0..self.file.num_row_groups();
        groups
            .filter_map(|group| self.group_span::<R>(group))
            .reduce(|[from, to], [first, last]| [from.min(first), to.max(last)])
    }

    /// How many rows it has, as it says itself.
    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    fn group_span<R: Row>(&self, group: usize) -> Option<[Time; 2]> {
        let metadata = self.file.metadata().row_group(group);
        let bound = |name: &str, of: fn(&Statistics) -> Option<i64>| {
            let column = metadata.columns().iter().find(|column| column.column_descr().name() == name)?;
            of(column.statistics()?).and_then(|ms| u64::try_from(ms).ok()?.try_into().ok())
        };
        let least = |statistics: &Statistics| match statistics {
            Statistics::Int64(known) => known.min_opt().copied(),
            _ => None,
        };
        let most = |statistics: &Statistics| match statistics {
            Statistics::Int64(known) => known.max_opt().copied(),
            _ => None,
        };
        Some([bound(R::SPAN[0], least)?, bound(R::SPAN[1], most)?])
    }

    /// Hands the rows of a period on, in batches, with all columns or those named; counts them in `read`.
    ///
    /// # Errors
    /// What the library answers, and a value that no row can have held. What was handed on before stands.
    pub(crate) fn read<R: Row>(
        &self,
        [begin, end]: [Time; 2],
        wanted: Option<&[&str]>,
        read: &mut u64,
        mut take: impl FnMut(&[R]),
    ) -> Result<()> {
        let mut batch = Vec::new();
        for group in 0..self.file.num_row_groups() {
            if self.group_span::<R>(group).is_some_and(|[from, to]| to < begin || from >= end) {
                continue;
            }
            let (mut sources, rows) = guarded(|| {
                let reader = self.file.get_row_group(group)?;
                let sources = R::Sources::open(reader.as_ref(), |name| {
                    R::SPAN.contains(&name) || wanted.is_none_or(|wanted| wanted.contains(&name))
                })?;
                Ok((sources, usize::try_from(reader.metadata().num_rows()).unwrap_or(0)))
            })?;
            let mut left = rows;
            while left > 0 {
                let rows = left.min(BATCH_ROWS);
                batch.clear();
                guarded(|| {
                    sources.fill(rows)?;
                    for _ in 0..rows {
                        let row = sources.next().ok_or_else(|| {
                            ParquetError::General(format!("a row of {} holds what none can hold", R::TABLE))
                        })?;
                        if (begin..end).contains(&row.at()) {
                            batch.push(row);
                        }
                    }
                    Ok(())
                })?;
                take(&batch);
                *read += batch.len() as u64;
                left -= rows;
            }
        }
        Ok(())
    }
}

thread_local! {
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be one of the library over a damaged file, which is told as any other damage: no hook
/// needs to say a word of it.
pub fn expects_panic() -> bool {
    EXPECTS_PANIC.get()
}

/// The library panics on some damaged files: the caller is told, as of any other damage.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = EXPECTS_PANIC.replace(true);
    // What it leaves half done is not used again.
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTS_PANIC.set(before);
    done.unwrap_or_else(|_| Err(ParquetError::General("the file is damaged".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error_and_expected() {
        let answer = guarded::<()>(|| {
            assert!(expects_panic());
            panic!("as on a damaged file");
        });
        assert!(answer.is_err() && !expects_panic());
        assert!(guarded(|| Ok(expects_panic())).unwrap() && !expects_panic());
    }
}

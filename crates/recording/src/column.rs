//! A column of a table: what a value of a row is in Parquet, and back.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use parquet::basic::{Encoding, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::RowGroupReader;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::{Type, TypePtr};

use crate::rows::Time;
use crate::words::{ClosedBy, Direction, Evidence, Protocol, SumKind};

/// What a value is in Parquet. `Stored` is one of the six physical types.
pub(crate) trait Value: Clone {
    type Stored: DataType;
    /// Whether few different values are to be expected, so that a dictionary pays.
    const IS_REPEATED: bool;
    fn logical() -> Option<LogicalType>;
    /// What stands for a column that is not read.
    fn blank() -> Self;
    fn store(&self) -> <Self::Stored as DataType>::T;
    /// None for what no row can have held.
    fn load(stored: &<Self::Stored as DataType>::T) -> Option<Self>;

    /// By what a value is known again that was stored before; None where storing costs less than looking.
    fn key(&self) -> Option<TextKey> {
        None
    }

    /// Where the stored bytes are, and how many; None where loading costs less than looking.
    fn place(_stored: &<Self::Stored as DataType>::T) -> Option<Place> {
        None
    }
}

/// What tells two texts apart without writing them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum TextKey {
    Address(IpAddr),
    Text(Arc<str>),
    Word(&'static str),
}

type Place = (usize, usize);

/// A value, or one that may be missing.
pub(crate) trait Cell: Sized {
    type Value: Value;
    const IS_NULLABLE: bool;
    fn value(&self) -> Option<&Self::Value>;
    /// None where a value is missing that must not be.
    fn of(value: Option<Self::Value>) -> Option<Self>;
}

type Stored<C> = <<C as Cell>::Value as Value>::Stored;
type StoredValue<C> = <Stored<C> as DataType>::T;

/// Different texts of a column whose stored form is kept.
const MOST_KNOWN: usize = 4_096;

/// Values on their way to a file.
pub(crate) struct Column<C: Cell> {
    values: Vec<StoredValue<C>>,
    levels: Vec<i16>,
    known: HashMap<TextKey, StoredValue<C>>,
}

impl<C: Cell> Default for Column<C> {
    fn default() -> Column<C> {
        Column { values: Vec::new(), levels: Vec::new(), known: HashMap::new() }
    }
}

impl<C: Cell> Column<C> {
    pub(crate) fn push(&mut self, cell: &C) {
        let value = cell.value();
        if C::IS_NULLABLE {
            self.levels.push(i16::from(value.is_some()));
        }
        let Some(value) = value else { return };
        let stored = match value.key() {
            None => value.store(),
            Some(key) => {
                if self.known.len() >= MOST_KNOWN {
                    self.known.clear();
                }
                self.known.entry(key).or_insert_with(|| value.store()).clone()
            }
        };
        self.values.push(stored);
    }

    /// Writes what was pushed as the next column of a row group.
    pub(crate) fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<()> {
        let levels = C::IS_NULLABLE.then_some(self.levels.as_slice());
        writer.typed::<Stored<C>>().write_batch(&self.values, levels, None)?;
        self.values.clear();
        self.levels.clear();
        writer.close()
    }
}

/// The field of the schema, and how it is best encoded.
pub(crate) fn field<C: Cell>(name: &str) -> Result<(TypePtr, Option<Encoding>)> {
    let repetition = if C::IS_NULLABLE { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let physical = Stored::<C>::get_physical_type();
    let field = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(C::Value::logical())
        .build()?;
    let counts = matches!(physical, Physical::INT32 | Physical::INT64) && !C::Value::IS_REPEATED;
    Ok((Arc::new(field), counts.then_some(Encoding::DELTA_BINARY_PACKED)))
}

/// A column of a row group, being read.
pub(crate) struct Source<C: Cell> {
    reader: Option<ColumnReaderImpl<Stored<C>>>,
    values: Vec<StoredValue<C>>,
    levels: Vec<i16>,
    is_nullable: bool,
    next_value: usize,
    next_level: usize,
    /// By the place of the bytes: those of one dictionary entry are the same.
    loaded: HashMap<Place, C::Value>,
}

impl<C: Cell> Source<C> {
    /// The column of that name; one that is not wanted, or nullable and not in the file, reads as missing everywhere.
    pub(crate) fn open(group: &dyn RowGroupReader, name: &str, is_wanted: bool) -> Result<Source<C>> {
        let schema = group.metadata().schema_descr();
        let place = schema.columns().iter().position(|column| column.name() == name).filter(|_| is_wanted);
        let mut is_nullable = false;
        let reader = match place {
            // A later version's columns may be missing; one that every row has means another table.
            None if is_wanted && !C::IS_NULLABLE => {
                return Err(ParquetError::General(format!("there is no column {name}")));
            }
            None => None,
            Some(place) => {
                let descriptor = schema.column(place);
                is_nullable = descriptor.max_def_level() > 0;
                if descriptor.physical_type() != Stored::<C>::get_physical_type()
                    || descriptor.max_def_level() > 1
                    || descriptor.max_rep_level() > 0
                {
                    return Err(ParquetError::General(format!("column {name} has another type")));
                }
                Some(get_typed_column_reader(group.get_column_reader(place)?))
            }
        };
        Ok(Source {
            reader,
            values: Vec::new(),
            levels: Vec::new(),
            is_nullable,
            next_value: 0,
            next_level: 0,
            loaded: HashMap::new(),
        })
    }

    /// Makes so many rows ready.
    pub(crate) fn fill(&mut self, rows: usize) -> Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        self.values.clear();
        self.levels.clear();
        (self.next_value, self.next_level) = (0, 0);
        // A new page may bring another dictionary in the place of the old one.
        self.loaded.clear();
        let (records, ..) = reader.read_records(rows, Some(&mut self.levels), None, &mut self.values)?;
        match records == rows {
            true => Ok(()),
            false => Err(ParquetError::General(format!("a column ends after {records} of {rows} rows"))),
        }
    }

    /// The next row's; None where the file holds what no row can have held.
    pub(crate) fn next(&mut self) -> Option<C> {
        if self.reader.is_none() {
            return C::of(None).or_else(|| C::of(Some(C::Value::blank())));
        }
        let is_there = !self.is_nullable || {
            let level = self.levels.get(self.next_level)?;
            self.next_level += 1;
            *level > 0
        };
        if !is_there {
            return C::of(None);
        }
        let stored = self.values.get(self.next_value)?;
        self.next_value += 1;
        let value = match C::Value::place(stored) {
            None => C::Value::load(stored)?,
            Some(place) => match self.loaded.get(&place) {
                Some(value) => value.clone(),
                None => {
                    let value = C::Value::load(stored)?;
                    self.loaded.insert(place, value.clone());
                    value
                }
            },
        };
        C::of(Some(value))
    }
}

impl<V: Value> Cell for V {
    type Value = V;
    const IS_NULLABLE: bool = false;

    fn value(&self) -> Option<&V> {
        Some(self)
    }

    fn of(value: Option<V>) -> Option<V> {
        value
    }
}

impl<V: Value> Cell for Option<V> {
    type Value = V;
    const IS_NULLABLE: bool = true;

    fn value(&self) -> Option<&V> {
        self.as_ref()
    }

    fn of(value: Option<V>) -> Option<Option<V>> {
        Some(value)
    }
}

/// Values whose stored form is another number.
macro_rules! numbers {
    ($($number:ty: $stored:ident, $is_repeated:literal, $logical:expr;)*) => {$(
        impl Value for $number {
            type Stored = $stored;
            const IS_REPEATED: bool = $is_repeated;

            fn logical() -> Option<LogicalType> {
                $logical
            }

            fn blank() -> $number {
                Default::default()
            }

            fn store(&self) -> <$stored as DataType>::T {
                *self as _
            }

            fn load(stored: &<$stored as DataType>::T) -> Option<$number> {
                Some(*stored as $number)
            }
        }
    )*};
}

fn unsigned(bit_width: i8) -> Option<LogicalType> {
    Some(LogicalType::integer(bit_width, false))
}

numbers! {
    u16: Int32Type, true, unsigned(16);
    u32: Int32Type, true, unsigned(32);
    u64: Int64Type, false, unsigned(64);
    f64: DoubleType, true, None;
}

impl Value for bool {
    type Stored = BoolType;
    const IS_REPEATED: bool = true;

    fn logical() -> Option<LogicalType> {
        None
    }

    fn blank() -> bool {
        false
    }

    fn store(&self) -> bool {
        *self
    }

    fn load(stored: &bool) -> Option<bool> {
        Some(*stored)
    }
}

impl Value for Time {
    type Stored = Int64Type;
    const IS_REPEATED: bool = false;

    fn logical() -> Option<LogicalType> {
        Some(LogicalType::timestamp(true, TimeUnit::MILLIS))
    }

    fn blank() -> Time {
        Time(0)
    }

    fn store(&self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    fn load(stored: &i64) -> Option<Time> {
        u64::try_from(*stored).ok()?.try_into().ok()
    }
}

fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
}

/// Values that are text in a file.
macro_rules! texts {
    ($($text:ty: $blank:expr, $key:expr, $store:expr, $load:expr;)*) => {$(
        impl Value for $text {
            type Stored = ByteArrayType;
            const IS_REPEATED: bool = true;

            fn logical() -> Option<LogicalType> {
                Some(LogicalType::String)
            }

            fn blank() -> $text {
                $blank
            }

            fn store(&self) -> ByteArray {
                let store: fn(&$text) -> ByteArray = $store;
                store(self)
            }

            fn load(stored: &ByteArray) -> Option<$text> {
                let load: fn(&str) -> Option<$text> = $load;
                load(stored.as_utf8().ok()?)
            }

            fn key(&self) -> Option<TextKey> {
                let key: fn(&$text) -> TextKey = $key;
                Some(key(self))
            }

            fn place(stored: &ByteArray) -> Option<Place> {
                let bytes = stored.data();
                Some((bytes.as_ptr().addr(), bytes.len()))
            }
        }
    )*};
}

texts! {
    IpAddr:
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        |address| TextKey::Address(*address),
        |address| bytes(&address.to_string()),
        |text| text.parse().ok();
    Arc<str>:
        "".into(),
        |text| TextKey::Text(text.clone()),
        |text| bytes(text),
        |text| Some(text.into());
    Protocol:
        Protocol::Unknown,
        |word| TextKey::Word(word.word()),
        |word| bytes(word.word()),
        |text| Some(Protocol::of(text));
    Direction:
        Direction::Unknown,
        |word| TextKey::Word(word.word()),
        |word| bytes(word.word()),
        |text| Some(Direction::of(text));
    ClosedBy:
        ClosedBy::Unknown,
        |word| TextKey::Word(word.word()),
        |word| bytes(word.word()),
        |text| Some(ClosedBy::of(text));
    Evidence:
        Evidence::Unknown,
        |word| TextKey::Word(word.word()),
        |word| bytes(word.word()),
        |text| Some(Evidence::of(text));
    SumKind:
        SumKind::Unknown,
        |word| TextKey::Word(word.word()),
        |word| bytes(word.word()),
        |text| Some(SumKind::of(text));
}

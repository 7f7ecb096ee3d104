//! Sockets for machines, one at a time: a JSON array, JSON lines, CSV. Nothing is held back.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::render::socket_fields::{Extra, Group, Socket, Value, for_each_field, names};
use crate::terminal::{Harmless, write_json};

/// Takes sockets as they come.
pub(crate) trait SocketSink {
    /// Writes one socket.
    fn socket(&mut self, socket: &Socket<'_>) -> io::Result<()>;
    /// Writes what stands behind the last one.
    fn finish(&mut self) -> io::Result<()>;
}

/// `[` one object per line `]`, or without brackets and commas for JSON lines.
pub(crate) struct Json<W: Write> {
    out: W,
    extra: Extra,
    lines: bool,
    first: bool,
    /// One socket's text: the serializer writes in crumbs.
    text: Vec<u8>,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W, extra: Extra, lines: bool) -> Json<W> {
        Json { out, extra, lines, first: true, text: Vec::new() }
    }
}

impl<W: Write> SocketSink for Json<W> {
    fn socket(&mut self, socket: &Socket<'_>) -> io::Result<()> {
        self.text.clear();
        if !self.lines {
            self.text.extend_from_slice(if self.first { b"[\n" } else { b",\n" });
        }
        self.first = false;
        write_json(&mut self.text, &Object { socket, extra: self.extra })?;
        if self.lines {
            self.text.push(b'\n');
        }
        self.out.write_all(&self.text)
    }

    fn finish(&mut self) -> io::Result<()> {
        match (self.lines, self.first) {
            (true, _) => {}
            (false, true) => self.out.write_all(b"[]\n")?,
            (false, false) => self.out.write_all(b"\n]\n")?,
        }
        self.out.flush()
    }
}

struct Object<'a> {
    socket: &'a Socket<'a>,
    extra: Extra,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // Fields of a group stand together: one is collected, then written as a nested object.
        let mut nested = Nested { group: Group::Socket, fields: Vec::new() };
        for_each_field(self.socket, self.extra, |group, name, value| {
            if group != nested.group {
                nested.write(&mut map)?;
                nested.group = group;
            }
            match (group, &value) {
                (_, Value::Absent) => Ok(()),
                (Group::Socket, _) => map.serialize_entry(name, &value),
                _ => {
                    nested.fields.push((name, value));
                    Ok(())
                }
            }
        })?;
        nested.write(&mut map)?;
        map.end()
    }
}

struct Nested<'a> {
    group: Group,
    fields: Vec<(&'static str, Value<'a>)>,
}

impl Nested<'_> {
    fn write<M: SerializeMap>(&mut self, map: &mut M) -> Result<(), M::Error> {
        if !self.fields.is_empty() {
            map.serialize_entry(self.group.name(), self)?;
            self.fields.clear();
        }
        Ok(())
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Absent => serializer.serialize_none(),
            Value::Unsigned(number) => serializer.serialize_u64(*number),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
            Value::Word(word) => serializer.serialize_str(word),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Borrowed(text) => serializer.serialize_str(text),
            Value::Address(address) => serializer.collect_str(address),
        }
    }
}

/// A header line and one line per socket; the columns are the same whatever the sockets are.
pub(crate) struct Csv<W: Write> {
    out: csv::Writer<W>,
    extra: Extra,
    text: Vec<u8>,
}

impl<W: Write> Csv<W> {
    /// Begins the table; `header` writes the column names.
    ///
    /// # Errors
    /// What writing answers.
    pub(crate) fn new(out: W, extra: Extra, header: bool) -> io::Result<Csv<W>> {
        let mut out = csv::Writer::from_writer(out);
        if header {
            out.write_record(names(extra).map(|(group, name)| match group.name() {
                "" => name.to_owned(),
                group => format!("{group}_{name}"),
            }))
            .map_err(io_error)?;
        }
        Ok(Csv { out, extra, text: Vec::new() })
    }
}

impl<W: Write> SocketSink for Csv<W> {
    fn socket(&mut self, socket: &Socket<'_>) -> io::Result<()> {
        let (out, text) = (&mut self.out, &mut self.text);
        for_each_field(socket, self.extra, |_, _, value| {
            text.clear();
            match value {
                Value::Absent => {}
                Value::Unsigned(number) => write!(text, "{number}")?,
                Value::Flag(flag) => write!(text, "{flag}")?,
                Value::Word(word) => text.extend_from_slice(word.as_bytes()),
                // Unlike JSON, CSV has no escapes of its own: a line break would also tear the row for simple readers.
                Value::Text(words) => write!(text, "{}", Harmless(&words))?,
                Value::Borrowed(words) => write!(text, "{}", Harmless(words))?,
                Value::Address(address) => write!(text, "{address}")?,
            }
            out.write_field(&text).map_err(io_error)
        })?;
        out.write_record(None::<&[u8]>).map_err(io_error)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The error as the operating system gave it: a closed pipe must be known as one, and csv's own conversion hides it.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

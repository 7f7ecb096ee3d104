//! Sockets for machines, one at a time: a JSON array, JSON lines, CSV. Nothing is held back.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::render::socket_fields::{Extra, Socket, Value, for_each_field, names};

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
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W, extra: Extra, lines: bool) -> Json<W> {
        Json { out, extra, lines, first: true }
    }
}

impl<W: Write> SocketSink for Json<W> {
    fn socket(&mut self, socket: &Socket<'_>) -> io::Result<()> {
        if !self.lines {
            self.out.write_all(if self.first { b"[\n" } else { b",\n" })?;
        }
        self.first = false;
        serde_json::to_writer(&mut self.out, &Object { socket, extra: self.extra })?;
        if self.lines {
            self.out.write_all(b"\n")?;
        }
        Ok(())
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
        let mut group = Group { name: "", fields: Vec::new() };
        for_each_field(self.socket, self.extra, |name_of_group, name, value| {
            if name_of_group != group.name {
                group.write(&mut map)?;
                group.name = name_of_group;
            }
            match (name_of_group, &value) {
                (_, Value::Absent) => Ok(()),
                ("", _) => map.serialize_entry(name, &value),
                _ => {
                    group.fields.push((name, value));
                    Ok(())
                }
            }
        })?;
        group.write(&mut map)?;
        map.end()
    }
}

struct Group<'a> {
    name: &'static str,
    fields: Vec<(&'static str, Value<'a>)>,
}

impl Group<'_> {
    fn write<M: SerializeMap>(&mut self, map: &mut M) -> Result<(), M::Error> {
        if !self.fields.is_empty() {
            map.serialize_entry(self.name, self)?;
            self.fields.clear();
        }
        Ok(())
    }
}

impl Serialize for Group<'_> {
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
            out.write_record(names(extra).map(|(group, name)| match group {
                "" => name.to_owned(),
                _ => format!("{group}_{name}"),
            }))?;
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
                Value::Text(words) => text.extend_from_slice(words.as_bytes()),
                Value::Borrowed(words) => text.extend_from_slice(words.as_bytes()),
                Value::Address(address) => write!(text, "{address}")?,
            }
            out.write_field(&text).map_err(io::Error::from)
        })?;
        out.write_record(None::<&[u8]>)?;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

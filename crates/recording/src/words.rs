//! Columns that hold one of a few words, as JSON names them.

use serde::{Deserialize, Serialize};

/// An enum with the words that stand for its variants. What a file says beyond these is the last one.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$what])* $variant,)*
            /// Not known, or a word of a later sockeye.
            #[default]
            Unknown,
        }

        impl $name {
            /// The word of the column and of JSON.
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                    $name::Unknown => "unknown",
                }
            }

            /// What the word stands for.
            pub fn of(word: &str) -> $name {
                match word {
                    $($word => $name::$variant,)*
                    _ => $name::Unknown,
                }
            }
        }
    };
}

words! {
    /// Of a connection or socket.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

words! {
    /// Who began a connection.
    Direction {
        /// This host.
        Outgoing = "outgoing",
        /// The other.
        Incoming = "incoming",
    }
}

words! {
    /// Who ended a connection first.
    ClosedBy {
        /// This side.
        Local = "local",
        /// The other side.
        Remote = "remote",
        /// A reset by either side, or an attempt that was refused.
        Reset = "reset",
    }
}

words! {
    /// By what an end became known.
    Evidence {
        /// A destroy event.
        Event = "event",
        /// A TIME_WAIT socket took its place.
        TimeWait = "time_wait",
        /// The kernel denied it when asked.
        Lookup = "lookup",
        /// Two sweeps did not find it.
        Sweeps = "sweeps",
    }
}

words! {
    /// By what connections are added up.
    SumKind {
        /// By when they ended.
        Time = "time",
        /// By destination or listener.
        End = "end",
        /// By owner, and who ended them.
        Owner = "owner",
        /// Outgoing ones, by their own port.
        Port = "port",
    }
}

//! What `--help` says behind the options of each command: how to read it, examples, exit codes.

pub(crate) const CHECK_HELP: &str = "\
Metrics:
  occupancy    of the fullest destination, in per cent of its ports
  headroom     connects left to the destination that has the fewest
  ports        in use towards one destination, TIME_WAIT included
  time_wait    sockets in TIME_WAIT
  close_wait   sockets whose other side has closed, and this one has not
  opens        connections a second; needs --for
  closes       the same of closes
  stuck        sockets in a passing state for long: a leak, a peer that is gone

Ranges, as all monitoring plugins have them:
  80           alert above 80 (and below 0)      10:20   outside of 10 to 20
  10:          alert below 10                    @10:20  inside, ends included
  ~:5          alert above 5

Without -w and -c: -w occupancy=50%,stuck=0 -c occupancy=80%. Half is where
connect() begins to search both halves of the range, and slows down.

Examples:
  sockeye check
  sockeye check -w occupancy=50% -c occupancy=80% -c headroom=1000:
  sockeye check --for 5s -w opens=200 -c opens=400,stuck=100
  sockeye check -N web -c close_wait=500

Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: an error or wrong usage. The
answer is one line with performance data, then lines with what else is known.";

pub(crate) const HEADROOM_HELP: &str = "\
How to read it:
  The number is how many connect() to this destination succeed now, one after
  the other; an interval where the kernel does not tell enough. Below it is what
  the other ports of the range are taken by, and what would give more.

  The forecast says when none will be left if it goes on like this. From a single
  look the rate is that of the closes of the last minute, as TIME_WAIT timers
  tell it; with --for, opens and closes are counted.

Examples:
  sockeye headroom 10.0.9.12:8080
  sockeye headroom '[2001:db8::9]:443' --from 2001:db8::7
  sockeye headroom 10.0.9.12:8080 --for 10s
  sockeye headroom 10.0.9.12:8080 --probe
  sockeye headroom 10.0.9.12:8080 --json | jq .headroom.min

Exit codes: 0 a connect() may succeed, 1 none does (from one of the local
addresses shown), 2 wrong usage or an error.";

pub(crate) const PORTS_HELP: &str = "\
How to read it:
  Each cell of the picture stands for a few neighbouring ports. Bars are
  connections, the taller the more of the cell's ports have one; shades are
  TIME_WAIT. Letters are ports that every connect() skips: L a listener, B bound
  and idle, N bound by number before connecting; x is reserved.

  connect() takes ports of one parity first and the others when these are gone:
  the two halves show how near that is. FREE is the longest runs of ports that
  nobody has. BIND is how many more bind() with port 0 succeed on the local
  addresses with the least left, whatever they connect to then.

  With a port, its sockets are listed, and whether the kernel would choose it.

Examples:
  sockeye ports
  sockeye ports --from 10.0.0.7 --to 10.0.9.12:8080   what connect() sees there
  sockeye ports 41234                                 who holds that port
  sockeye ports 40000-40100 -t
  sockeye ports --json | jq '.runs[] | select(.holder == \"free\")'";

pub(crate) const RUN_HELP: &str = "\
How to read it:
  The command runs with its own input and outputs, and gets the signals that
  sockeye gets. What its connections came to goes to stderr when it has ended.

  --isolate gives it a network namespace of its own, where the kernel counts
  each connect() and accept. Only loopback is there, and the port settings are
  this host's. Without, it runs where it is, and its connections are told from
  others by a cgroup made for it: as root, OPENED is exact, too. An ordinary
  user gets bounds, by which processes hold what: 40 to 52.

  AT ONCE     connections at once, as looks ten times a second saw it
  PORTS       ports in use at once, TIME_WAIT included; bounds where there may
              have been more between two looks
  EXCHANGES   requests with their answers per connection, by the segments with
              data each way: pipelined requests count as one, large ones as more
  not closed  connections it opened that were left to the end of their process,
              bound sockets never used, and what outlives the command. Only root
              (CAP_PERFMON) hears who closes; others get bounds

  A rule is broken when its number is too high for certain; when that is in
  doubt, it is told as doubtful and does not fail.

A budget file:
  max_leaked = 0
  [[destination]]
  to = \"*:5432\"              also 10.0.0.0/8:443, 10.0.9.12:*
  max_opens = 10
  lifetime_p50_min = \"5s\"

Examples:
  sockeye run --isolate -- make test
  sockeye run --isolate --max-opens 10 --to '*:5432' -- cargo test
  sockeye run --isolate --budget connections.toml --export-junit out.xml -- ./bench
  sockeye run --isolate --save connections.baseline -- make test
  sockeye run --isolate --baseline connections.baseline --tolerance 10% -- make test
  sudo sockeye run --max-opens 10 --to '10.0.9.12:5432' -- ./job

Exit codes: the command's own, 128 and the number of the signal that ended it; 1
a rule is broken, 124 its time was up, 126 it cannot be executed, 127 there is
none, 2 wrong usage or an error of sockeye.";

pub(crate) const SNAPSHOT_HELP: &str = "\
How to read it:
  IN USE      ports of the pool this destination has taken, TIME_WAIT included,
              as a share of what is usable
  LIVE        sockets that are not in TIME_WAIT
  CLOSES/s    connections closed by this side, mean of the last 60 s,
              from the age of the TIME_WAIT sockets
  HEADROOM    how many more connect() to this destination succeed now;
              an interval where the kernel does not tell enough
  EXHAUSTED   when none will, if it goes on like this: `now`, `in 17 s`, or —
              for never; `≥ 17 s` is the earliest where HEADROOM is in doubt.
              Opens are guessed from the closes of the last minute:
              connections that this side does not close are not among them

A destination is (protocol, local address, remote address, remote port): what
connect() runs out of ports against. Sockets accepted by a listener take no
ephemeral port and are no destination.

--by port-origin tells how local ports were got: accepted on a listener's,
bound by number (the kernel says so), bind() with port 0, or chosen by
connect(). Between the last two only IP_BIND_ADDRESS_NO_PORT decides; without
it they are inferred from the half of the range that each takes first, and not
known where connect() has used its half up, as of a TIME_WAIT that was never
seen alive.

With --all-netns there is a line for each network namespace, worst first, with
its worst destination, and --top says how many. A namespace is called by its
name in `ip netns`, by its mount, or by the process with the lowest id in it.
With --by as well, the connections of all of them are added up.

Examples:
  sockeye snapshot
  sockeye snapshot --top 20 --sort headroom
  sockeye snapshot --all-netns --sort closes
  sockeye snapshot --by port-origin
  sockeye snapshot --all-netns --by owner
  sockeye snapshot --json | jq .pool.tcp.usable";

pub(crate) const SOCKETS_HELP: &str = "\
Filters (the grammar of ss):
  state STATE, exclude STATE     established, time-wait, listening, …; also all,
                                 connected, synchronized, bound-inactive
  src ADDRESS[/PREFIX][:PORT]    local address: 10.0.0.0/8, [::1]:80, *:80, :80
  dst ADDRESS[/PREFIX][:PORT]    remote address
  sport OP PORT, dport OP PORT   OP is = != < > <= >= or eq ne lt gt le ge;
                                 PORT a number, :number, name or LOW-HIGH
  dev NAME, fwmark MARK[/MASK], autobound
  cgroup PATH, cgroup PATH/*, cgroup ID
                                 the control group it was made in: this one;
                                 with /* also those below it, as they are now
  user NAME, pid NUMBER, comm NAME
                                 the socket's user; processes that have it open
                                 now. The kernel knows neither: it hands out all
                                 that the other terms let through
  and or not ( )                 `not` binds tightest, then `and`, then `or`;
                                 terms side by side are joined by `and`

Examples:
  sockeye sockets -tan
  sockeye sockets -to state established dst 10.0.0.0/8
  sockeye sockets -t '( dport = :443 or dport = :8443 ) and not src 127.0.0.0/8'
  sockeye sockets -tai --json | jq '.[] | select(.tcp_info.rtt_us > 50000)'
  sockeye sockets -tanp comm = nginx and not user = root
  sockeye sockets -ta -o csv > sockets.csv

`-o FORMAT` chooses a format; a bare -o shows timers, as in ss.";

pub(crate) const CLOSES_HELP: &str = "\
How to read it:
  TIME       when it was closed, in UTC, or not later
  DIRECTION  out: this host connected; in: a listener here accepted; local: both
             ends are here, and each has a line
  LIFETIME   from open to close. `1.20 s ±0.50` lies between 0.70 s and 1.70 s:
             an open is found by a sweep, so it is known as well as sweeps are
             close (--interval). `> 3.00 s` was there before sockeye was
  SENT       payload bytes that were acknowledged; before Linux 4.19 SYN and FIN
             count one each
  RECEIVED   payload bytes that came in; where this side closed first, perhaps
             one more: the other side's FIN
  RETRANS    segments that were sent again
  CLOSED BY  who closed first: local, remote, or reset by either

A filter has the grammar of `sockeye sockets`, as far as it speaks of addresses
and ports: what is closed has no state any more.

Examples:
  sockeye closes
  sockeye closes dport = :443 and not dst 10.0.0.0/8
  sockeye closes --for 1m --json | jq -r 'select(.closed_by == \"reset\") | .remote_address'
  sockeye closes --count 1000 -o csv > closes.csv";

pub(crate) const LIFETIMES_HELP: &str = "\
How to read it:
  completed     connections that began and ended while it was watched
  older         ended, but were there before: their age is not known
  open          have not ended
  between       the bounds of each percentile, which are certain: a beginning is
                found by a sweep, so it is known as well as sweeps are close
                (--interval). The number is the best estimate between them
  Kaplan–Meier  percentiles of all connections: that some are older or still
                open says they live at least so long. — where too many are

The percentage beside a bar is the share of connections that lived no longer.
Without --for it watches for 10 s; Ctrl-C ends it early and tells what there is.

The log of --hlog is for the tools of HdrHistogram (format 1.3): a line for all
connections that ended in an interval and one for each group under its tag, in
milliseconds.

Examples:
  sockeye lifetimes
  sockeye lifetimes --for 1m --by listener
  sockeye lifetimes --for 5m --json | jq .percentiles_ms.p99
  sockeye lifetimes --for 1h --interval 5s --hlog lifetimes.hlog";

pub(crate) const DIFF_HELP: &str = "\
What is compared, as far as both files tell it (and --fail-on calls it):
  sockets established close_wait time_wait live   sockets, or the most of them
  opens accepts opens_per_second closes_per_second
  held usable headroom ports                      ports
  time_wait_left leaked                           what a run leaves
  lifetimes                                       fails when they are shorter

Lifetimes are called shorter or longer only when chance rarely does that (the
log-rank test, p < 0.01) and the ratio of their medians lies beyond 5 % with its
whole 95 % interval. Connections still open count, too. Opens per second of two
reports are compared by how much they vary within each.

Exit codes: 0 done; 1 something of --fail-on is so; 2 an error, a number that
--fail-on asks for and the files do not tell among them, or lifetimes of too few
connections to compare.

Examples:
  sockeye --json > before.json; …; sockeye --json > after.json
  sockeye diff before.json after.json
  sockeye diff /srv/monday /srv/friday
  sockeye diff main.json branch.json --fail-on opens=10% --fail-on lifetimes";

pub(crate) const RECORD_HELP: &str = "\
What is kept (docs/recording.md has every column):
  ticks         a row a tick: opens, closes, live, states, pool, worst destination
  connections   a row for each that ends: its ends, its owner, when it was opened
                and closed and how sure that is, bytes, who closed first
  destinations  ports in use, when that changes
  settings      of the host, when they change
  warnings      once a minute while they hold

A tick is one write to a journal. Every hour, or 64 MiB, that becomes Parquet
files, which DuckDB, Polars and pandas read as they are. After kill -9 or a power
cut everything but the last seconds is there, and the next `sockeye record` goes
on. A full disk ends the recording and spoils nothing of it.

Examples:
  sockeye record
  sockeye record -o /srv/history --keep 30d --max-size 20G
  sockeye record --interval 10s --cpu-budget 1%
  sockeye record -o peak --for 10m && sockeye report peak --html peak.html
  duckdb -c \"select count(*) from 'peak/connections/*.parquet'\"

Ends with SIGINT or SIGTERM. Exit codes: 0 done, 2 wrong usage or an error.";

pub(crate) const REPORT_HELP: &str = "\
Times are UTC: a date and time, a time of day (the latest such), or an age. What
was not recorded is no zero: it is left out, and a note says for how long.
`sockeye top --replay DIR` steps through the ticks one by one.

Examples:
  sockeye report
  sockeye report --begin -2h
  sockeye report /srv/history --begin '2026-11-23 16:00' --end '2026-11-23 18:00'
  sockeye report --by cgroup --top 20
  sockeye report --begin 09:00 --html morning.html
  sockeye report --json | jq '.destinations[0]'
  sockeye report monday --json > a.json; sockeye report friday --json > b.json
  sockeye diff a.json b.json

Exit codes: 0 done, 2 wrong usage or an error.";

pub(crate) const WATCH_HELP: &str = "\
How to read it:
  TIME              when the interval ended, in UTC
  OPENS/s CLOSES/s  TCP connections that began and ended in the interval
  LIVE              connections there are now, TIME_WAIT not among them
  TIME-WAIT         sockets that keep a port for 60 s after their close
  SEEN              share of the connections the kernel counted that were seen
  LOST              destroy events lost since the start
  WORST DESTINATION the one closest to running out of ports: how much of the
                    pool it has USED, how many more connect() succeed now
                    (HEADROOM), and when none will any more (EXHAUSTED)

The first line is about the first interval after the start, not about the time
since boot. A sweep that --cpu-budget left out leaves the port numbers as they
were; opens are then found late, closes are not.

With --all-netns each interval has a line for all network namespaces together
and one for each of the worst. Namespaces are found as they come and forgotten
when they go. One in which no counter has moved is not swept; of at most 128
destroy events are heard (in JSON: \"events\"), the closes of the others are
found by sweeps. --cpu-budget is for all of them together. With --by as well,
the connections of all of them are added up.

Examples:
  sockeye watch                 every second
  sockeye watch 5 --all-netns   every namespace of the host
  sockeye watch 5 12            every 5 s, 12 times
  sockeye watch 500ms -o csv > churn.csv
  sockeye watch --json --top 3 | jq -c '[.at, .opens, .closes, .worst.occupancy_ratio]'
  sockeye watch --cpu-budget 2% a host with very many sockets
  sockeye watch 1 60 --capture minute.sockeye
  sockeye watch --replay minute.sockeye";

pub(crate) const TOP_HELP: &str = "\
Keys (? shows them all, with what the columns mean):
  1 … 6, Tab     destinations, owners, ports, lifetimes, listeners, sockets
  Up Down Enter  choose a destination, and look at it alone; Esc goes back
  < > r          sort by the column to the left or right; turn the order round
  /              filter, in the grammar of ss
  Space          pause; then Left and Right step through the last minutes
  + -            longer or shorter intervals; of a replay, its speed
  n              another network namespace
  q              quit

A recording (--replay DIR, written by `sockeye record`) stands at its first tick,
or at --begin. It has neither single sockets, nor listeners, nor which ports were
in use; owners and lifetimes are of what ended in the minute before the tick. It
may still be written. Other keys:
  Space + -      play and stop, faster and slower
  Left Right     a tick back, a tick on (also T t)
  M m X x O o    a minute, ten minutes, an hour back and on
  ^ $            the first tick, and the last
  b @            go to a time: 16:05, '2026-11-23 16:05', -2h (all UTC)

Examples:
  sockeye top
  sockeye top 5 --cpu-budget 2%
  sockeye top -N web
  sockeye top --replay incident.sockeye    the past, at its own pace
  sockeye top --replay /var/lib/sockeye --begin 16:05";

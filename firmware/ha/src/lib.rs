//! The decisions of Twinpost: roles, verdicts, timers, takeover plans (`spec/ha.md` sections 3 to 8). Sans-IO: the shell
//! passes in [`Event`]s with the time, drains [`Action`]s, and calls again at [`Ha::next_deadline`]. No clock, no IO, no
//! allocation. How an action is done is the shell's business; its result comes back as an event.
#![no_std]
#![forbid(unsafe_code)]

mod interface;

pub use interface::{
    Action, Command, Event, Evidence, Fault, FenceAnswer, Note, ProbeTarget, Reason, Settings, Stay, Step,
    Verdict, VipAnswer,
};

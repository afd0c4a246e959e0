//! The pair's election, fencing and hand-over of mail as an abstract model, explored exhaustively within small bounds: two units, two
//! heartbeat links, a service network, power cuts, cuts, messages late and lost, disks with data generations. `spec/ha.md` sections 4,
//! 5, 7 and 8.
//!
//! Abstract means: these rules are written a second time, in the words of `firmware/ha`, and without time; `tests/tied.rs` asks the
//! real decisions the same questions where one answer can be compared. The real code in time, with stalls, clocks and leases, is the
//! simulator's (`ci/sim`). Nothing here is part of the product.
#![forbid(unsafe_code)]

mod model;
mod protocol;
mod state;

pub use model::{Act, Mutation, Pair};
pub use protocol::outranks;
pub use state::{Budget, Compared, Disk, Ground, Report, Role, Unit, World};

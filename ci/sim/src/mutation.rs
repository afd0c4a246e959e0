//! Deliberate bugs of the machine around the decisions, one at a time, that prove the checks of [`crate::judge`]: each must be caught
//! by one of the checks named here (test `mutations`; table in `ci/sim/README.md`). No product code knows of them.

use crate::judge::Check;

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// `StoreEpoch` says that it is done and stores nothing.
    SkipEpochWrite,
    /// `Fence` says that it is done and leaves replication as it is.
    SkipFence,
    /// Heartbeats of link 2 are never given to the decisions.
    IgnoreLink2,
    /// An Outdated copy is reported as UpToDate, and promotes.
    PromoteOutdated,
    /// Epochs of the peer arrive as their complement: the lower one looks like the higher.
    EpochsReversed,
    /// The virtual IPs are claimed when the promotion begins.
    ClaimBeforePromotion,
    /// Nothing takes the virtual IPs away when the supervisor stops.
    ForgetLease,
    /// Nothing resets a machine whose supervisor hangs.
    ForgetWatchdog,
    /// `PassMail` says that it is done and passes nothing.
    DiscardWithoutHandOver,
    /// Every fence question is answered with "the peer is down" at once.
    FenceAlwaysPeerDown,
    /// Notes of mode changes are not written down.
    DropNotes,
    /// The probe of the virtual IPs never finds anybody.
    BlindVipProbe,
    /// A message is acknowledged when it is on the own disk, without waiting for the peer's.
    AckBeforeReplicated,
    /// `ReleaseVips` says that it is done and keeps them.
    KeepVips,
    /// `Connect` of unit a always gives up its diverged data.
    AlwaysDiscard,
    /// The flap latch is told a limit of 20 whatever is configured.
    ForgetRoleChangeLimit,
    /// The resynchronisation runs from the older copy to the newer one.
    ResyncBackwards,
    /// `DrainMail` says that it is done and waits for nothing.
    SkipDrain,
    /// Nobody is told that another host claims a virtual IP.
    DeafToContest,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 19] = [
        Self::SkipEpochWrite,
        Self::SkipFence,
        Self::IgnoreLink2,
        Self::PromoteOutdated,
        Self::EpochsReversed,
        Self::ClaimBeforePromotion,
        Self::ForgetLease,
        Self::ForgetWatchdog,
        Self::DiscardWithoutHandOver,
        Self::FenceAlwaysPeerDown,
        Self::DropNotes,
        Self::BlindVipProbe,
        Self::AckBeforeReplicated,
        Self::KeepVips,
        Self::AlwaysDiscard,
        Self::ForgetRoleChangeLimit,
        Self::ResyncBackwards,
        Self::SkipDrain,
        Self::DeafToContest,
    ];

    /// The checks that catch it.
    #[must_use]
    pub fn caught_by(self) -> &'static [Check] {
        match self {
            Self::SkipEpochWrite => &[Check::NewEpoch],
            Self::SkipFence => &[Check::FencedFirst],
            Self::IgnoreLink2 | Self::DropNotes => &[Check::Recorded],
            Self::PromoteOutdated => &[Check::FitData],
            Self::EpochsReversed => {
                &[Check::NewEpoch, Check::OneWriter, Check::OneAddress, Check::WholeAgain]
            }
            Self::ClaimBeforePromotion | Self::KeepVips => &[Check::ClaimLast],
            Self::ForgetLease => &[Check::Lease],
            Self::ForgetWatchdog => &[Check::Watchdog],
            Self::FenceAlwaysPeerDown => &[Check::NothingLost, Check::OneWriter, Check::WholeAgain],
            Self::DeafToContest => &[Check::OneAddress],
            Self::BlindVipProbe => &[Check::OneAddress, Check::OneWriter],
            Self::SkipDrain => &[Check::RecordedFirst],
            Self::ForgetRoleChangeLimit => &[Check::RoleChanges],
            Self::DiscardWithoutHandOver
            | Self::AckBeforeReplicated
            | Self::AlwaysDiscard
            | Self::ResyncBackwards => &[Check::NothingLost],
        }
    }

    /// The bug in words, for the table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::SkipEpochWrite => "the epoch is not written before the promotion",
            Self::SkipFence => "replication is not cut before the promotion",
            Self::IgnoreLink2 => "heartbeats of link 2 are ignored",
            Self::PromoteOutdated => "an Outdated copy counts as UpToDate",
            Self::EpochsReversed => "the lower epoch looks like the higher one",
            Self::ClaimBeforePromotion => "virtual IPs are claimed when the promotion begins",
            Self::ForgetLease => "virtual IPs outlive the supervisor",
            Self::ForgetWatchdog => "nothing resets a machine whose supervisor hangs",
            Self::DiscardWithoutHandOver => "diverged data is given up without a hand-over",
            Self::FenceAlwaysPeerDown => "every fence question is answered \"peer is down\"",
            Self::DropNotes => "mode changes are not written down",
            Self::BlindVipProbe => "the probe of the virtual IPs finds nobody",
            Self::AckBeforeReplicated => "mail is acknowledged before the peer has it",
            Self::KeepVips => "released virtual IPs stay",
            Self::AlwaysDiscard => "unit a gives up diverged data at every reconnection",
            Self::ForgetRoleChangeLimit => "max-role-changes is not heeded",
            Self::SkipDrain => "mail services stop in a switch without waiting for records of deliveries",
            Self::DeafToContest => "nobody is told that another host claims a virtual IP",
            Self::ResyncBackwards => "resynchronisation runs the wrong way",
        }
    }
}

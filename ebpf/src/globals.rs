//! What user space fixes before the load. The map behind these is frozen, so the verifier knows their values and
//! drops the code for fields that this kernel lacks.

use core::ptr;

use kube_tcpstates_common::offsets::{ClassicOffsets, FigureOffsets, Offsets, Settings, WalkOffsets};

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

#[unsafe(no_mangle)]
static WALK_OFFSETS: WalkOffsets = WalkOffsets::NONE;

#[unsafe(no_mangle)]
static FIGURE_OFFSETS: FigureOffsets = FigureOffsets::NONE;

#[unsafe(no_mangle)]
static CLASSIC: ClassicOffsets = ClassicOffsets {
    socket: 0,
    old_state: 0,
    new_state: 0,
    local_port: 0,
    peer_port: 0,
    family: 0,
    protocol: 0,
    protocol_size: 0,
    local_v4: 0,
    peer_v4: 0,
    local_v6: 0,
    peer_v6: 0,
};

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { want_on_cpu: 0, ring_bytes: 0, task_hierarchy: 0, lease_jiffies: 0 };

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $global:ident: $type:ty) => {
        $(#[$doc])*
        macro_rules! $name {
            ($field:ident) => {
                // SAFETY: the address of a field of a static.
                $crate::globals::read(unsafe { &raw const (*$crate::globals::$global()).$field })
            };
        }
        pub(crate) use $name;
    };
}

/// Reads a global as it is at run time: the compiler must not use the value written above.
#[inline(always)]
pub(crate) fn read(field: *const u32) -> u32 {
    // SAFETY: `field` points into one of the statics of this module.
    unsafe { ptr::read_volatile(field) }
}

#[inline(always)]
pub(crate) const fn offsets() -> *const Offsets {
    &raw const OFFSETS
}

#[inline(always)]
pub(crate) const fn walk_offsets() -> *const WalkOffsets {
    &raw const WALK_OFFSETS
}

#[inline(always)]
pub(crate) const fn figure_offsets() -> *const FigureOffsets {
    &raw const FIGURE_OFFSETS
}

#[inline(always)]
pub(crate) const fn classic_offsets() -> *const ClassicOffsets {
    &raw const CLASSIC
}

#[inline(always)]
pub(crate) const fn settings() -> *const Settings {
    &raw const SETTINGS
}

reader!(
    /// The offset of a kernel field.
    offset, offsets: Offsets
);
reader!(
    /// The offset of a field that only the walk reads.
    walk_offset, walk_offsets: WalkOffsets
);
reader!(
    /// The offset of a field that is read when a connection ends.
    figure_offset, figure_offsets: FigureOffsets
);
reader!(
    /// The offset of a field of the classic tracepoint's record.
    classic, classic_offsets: ClassicOffsets
);
reader!(
    /// One of the settings.
    setting, settings: Settings
);

//! libFuzzer on [`twinpost_fuzz::check`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::check(data));

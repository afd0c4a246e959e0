//! libFuzzer on [`twinpost_fuzz::control`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::control(data));

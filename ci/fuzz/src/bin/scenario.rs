//! libFuzzer on [`twinpost_fuzz::scenario`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::scenario(data));

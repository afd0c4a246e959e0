//! libFuzzer on [`twinpost_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::config(data));

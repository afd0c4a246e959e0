//! libFuzzer on [`twinpost_fuzz::api`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::api(data));

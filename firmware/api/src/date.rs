//! Dates between people and the machine, always UTC. Pure; knows no clock and no time zones. Proleptic Gregorian calendar, the days
//! counted in eras of 400 years from 1 March.

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_SHIFT: u64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// Years that a clock may be set to: the firmware is not older, hardware clocks count no further.
const YEARS: std::ops::RangeInclusive<u64> = 2020..=2099;

/// Date and time of milliseconds since 1970.
#[must_use]
pub fn utc(wall_ms: u64) -> String {
    let (days, s) = (wall_ms / 86_400_000, wall_ms / 1000 % 86_400);
    let shifted = days + EPOCH_SHIFT;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

/// Seconds since 1970 of `YYYY-MM-DD` and `HH:MM:SS`; `None` for what is no moment of the years 2020 to 2099.
#[must_use]
pub fn seconds(date: &str, time: &str) -> Option<u64> {
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let plausible = YEARS.contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !plausible || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_SHIFT;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    // A day that its month does not have (30 February) comes back as another one.
    utc(seconds * 1000).starts_with(date).then_some(seconds)
}

fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    let mut numbers = [0; 3];
    for ((part, digits), number) in parts.iter().zip(digits).zip(&mut numbers) {
        let right = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = right.then(|| part.parse().ok()).flatten()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_305_599_999), "2026-11-21 23:59:59 UTC");
        let last = utc(u64::MAX);
        assert!(last.ends_with("UTC"), "{last}");
    }

    #[test]
    fn every_day_survives_the_round_trip() {
        for day in 18_262..47_481 {
            let text = utc((day * 86_400 + 12 * 3600 + 34 * 60 + 56) * 1000);
            let (date, time) = text.strip_suffix(" UTC").unwrap().split_once(' ').unwrap();
            assert_eq!(seconds(date, time), Some(day * 86_400 + 45_296), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let noon = "12:00:00";
        for date in [
            "2025-02-29",
            "2026-02-30",
            "2026-13-01",
            "2026-00-10",
            "2026-1-1",
            "1999-12-31",
            "2100-01-01",
            "2026-01",
            "+026-01-01",
            "",
        ] {
            assert_eq!(seconds(date, noon), None, "{date}");
        }
        for time in ["24:00:00", "12:60:00", "12:00:60", "12:00", "1:00:00", "noon"] {
            assert_eq!(seconds("2026-01-01", time), None, "{time}");
        }
        assert!(seconds("2028-02-29", noon).is_some());
    }
}

//! A set of small numbers, for ledgers of messages: a copy of a disk must cost little.

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number.
    pub fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// Takes a number away.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Is it there?
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.word(number as usize / 64) & (1 << (number % 64)) != 0
    }

    /// Adds all of another set.
    pub fn unite(&mut self, other: &Bits) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own |= other;
        }
    }

    /// Removes what is not in the other set.
    pub fn keep(&mut self, other: &Bits) {
        for (index, own) in self.0.iter_mut().enumerate() {
            *own &= other.word(index);
        }
    }

    /// The first number that is here and in none of the others.
    #[must_use]
    pub fn first_not_in(&self, others: &[&Bits]) -> Option<u32> {
        self.0.iter().enumerate().find_map(|(index, own)| {
            let rest = others.iter().fold(*own, |rest, other| rest & !other.word(index));
            // An index of a word that exists fits, since numbers are u32.
            (rest != 0).then(|| index as u32 * 64 + rest.trailing_zeros())
        })
    }

    /// How many are here and not in `other`.
    #[must_use]
    pub fn count_not_in(&self, other: &Bits) -> u32 {
        self.0.iter().enumerate().map(|(index, own)| (own & !other.word(index)).count_ones()).sum()
    }

    fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_different_lengths() {
        let (mut a, mut b) = (Bits::default(), Bits::default());
        a.insert(3);
        a.insert(200);
        b.insert(3);
        assert_eq!(a.first_not_in(&[&b]), Some(200));
        assert_eq!((a.count_not_in(&b), b.count_not_in(&a)), (1, 0));
        b.unite(&a);
        b.remove(900);
        assert!(b.contains(200) && a.first_not_in(&[&b]).is_none() && !b.contains(201));
    }
}

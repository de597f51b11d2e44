//! How sure a number of cuts makes.

/// The largest probability of a loss per cut with which `losses` or fewer of `cuts` are not less likely
/// than 5 %: the one-sided bound of Clopper and Pearson.
pub(crate) fn upper_bound(cuts: u64, losses: u64) -> f64 {
    if losses >= cuts {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(losses, cuts, middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Probability of `losses` or fewer in `cuts`.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 cuts")]
fn at_most(losses: u64, cuts: u64, p: f64) -> f64 {
    let cuts = cuts as f64;
    let mut term = (1.0 - p).powf(cuts);
    let mut sum = term;
    for k in 1..=losses {
        let k = k as f64;
        term *= (cuts - k + 1.0) / k * p / (1.0 - p);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::upper_bound;

    #[test]
    fn bounds_are_those_of_the_tables() {
        assert!((upper_bound(200, 0) - 0.014_87).abs() < 1e-4);
        assert!((upper_bound(50, 14) - 0.402_4).abs() < 1e-3);
        assert!((upper_bound(3, 3) - 1.0).abs() < 1e-9);
    }
}

//! Prices as they are typed: `9.50USD`.

use duka_node::manifest::record::Price;

/// Codes of ISO 4217 that have no minor unit.
const NO_DIGITS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
/// Codes with a minor unit of a thousandth.
const THREE_DIGITS: &str = "BHD IQD JOD KWD LYD OMR TND";
/// Codes with a minor unit of a ten-thousandth.
const FOUR_DIGITS: &str = "CLF UYW";
/// Codes with a minor unit of a hundredth.
const TWO_DIGITS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN \
    BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS \
    GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL \
    MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP \
    PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT \
    TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

/// Parses an amount followed by an ISO 4217 code.
pub(crate) fn parse(text: &str) -> Result<Price, String> {
    let amount = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let currency = &text[amount.len()..];
    if amount.trim().is_empty() || currency.is_empty() {
        return Err("write an amount and a currency, such as 9.50USD".to_owned());
    }
    let currency = currency.to_ascii_uppercase();
    let digits = digits(&currency)
        .ok_or_else(|| format!("{currency} is not a currency code of ISO 4217"))?;
    let (whole, part) = amount
        .trim_end()
        .split_once('.')
        .unwrap_or((amount.trim_end(), ""));
    let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !decimal(whole) || !decimal(part) || amount.trim_end().ends_with('.') {
        return Err(format!("{amount:?} is not an amount"));
    }
    if part.len() > usize::from(digits) {
        return Err(format!("{currency} has {digits} digits after the point"));
    }
    let minor = format!("{whole}{part:0<width$}", width = usize::from(digits));
    let minor = minor.parse().map_err(|_| format!("{amount} is too much"))?;
    if minor == 0 {
        return Err("a price is more than nothing; a product without a price is free".to_owned());
    }
    Ok(Price {
        minor,
        digits,
        currency,
    })
}

fn digits(currency: &str) -> Option<u8> {
    let tables = [
        (0, NO_DIGITS),
        (2, TWO_DIGITS),
        (3, THREE_DIGITS),
        (4, FOUR_DIGITS),
    ];
    let listed = |codes: &str| codes.split(' ').any(|code| code == currency);
    tables
        .iter()
        .find(|(_, codes)| listed(codes))
        .map(|(digits, _)| *digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_become_minor_units_of_their_currency() {
        let minor = |text| parse(text).map(|price| (price.minor, price.digits, price.currency));
        assert_eq!(minor("9.50USD"), Ok((950, 2, "USD".into())));
        assert_eq!(minor("9.5 eur"), Ok((950, 2, "EUR".into())));
        assert_eq!(minor("800JPY"), Ok((800, 0, "JPY".into())));
        assert_eq!(minor("1.234KWD"), Ok((1234, 3, "KWD".into())));
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in [
            "",
            "9.50",
            "USD",
            "9.505USD",
            "1.5JPY",
            "-1USD",
            "1.USD",
            ".5USD",
            "0USD",
            "1e3USD",
            "9,50USD",
            "9.50USX",
            "99999999999999999999USD",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("1e5USD").unwrap_err(), "\"1e5\" is not an amount");
    }
}

//! Floating point numbers in Go's words.

/// The shortest decimal digits that read back as the same number, and the exponent of the first digit.
fn digits(value: f64) -> (String, i32) {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn scientific(value: f64) -> String {
    let (digits, exponent) = digits(value);
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.unsigned_abs())
}

/// As TOML: always with a point or an exponent, the exponent from 10⁶ on or below 10⁻⁴.
pub(super) fn toml(value: f64) -> String {
    if value.is_nan() || value.is_infinite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    let (_, exponent) = digits(value);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        return scientific(value);
    }
    let text = format!("{value}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// As JSON: whole numbers without a point, the exponent from 10²¹ on or below 10⁻⁶. The value is finite.
pub(super) fn json(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go shortens `e-09` to `e-9` here.
        return scientific(value).replace("e-0", "e-");
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, toml, json) in [
            (0.0, "0.0", "0"),
            (-0.0, "-0.0", "-0"),
            (2.0, "2.0", "2"),
            (-1.5, "-1.5", "-1.5"),
            (0.1, "0.1", "0.1"),
            (123_456.0, "123456.0", "123456"),
            (999_999.5, "999999.5", "999999.5"),
            (1e6, "1e+06", "1000000"),
            (1_234_567.25, "1.23456725e+06", "1234567.25"),
            (1e20, "1e+20", "100000000000000000000"),
            (1e21, "1e+21", "1e+21"),
            (1e-4, "0.0001", "0.0001"),
            (1e-5, "1e-05", "0.00001"),
            (1e-6, "1e-06", "0.000001"),
            (1.5e-7, "1.5e-07", "1.5e-7"),
            (1e-10, "1e-10", "1e-10"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (f64::from_bits(1), "5e-324", "5e-324"),
        ] {
            assert_eq!(super::toml(value), toml);
            assert_eq!(super::json(value), json);
        }
        for (value, toml) in
            [(f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (f64::NAN.abs(), "nan"), (-f64::NAN.abs(), "-nan")]
        {
            assert_eq!(super::toml(value), toml);
        }
    }
}

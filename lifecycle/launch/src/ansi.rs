//! Taking ANSI sequences (ECMA-48: colours, cursor movements, titles, links) out of a stream of bytes.

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Where in a sequence the stream is. The state outlives a write, because a sequence may be spread over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plain {
    /// In none.
    #[default]
    Text,
    /// After ESC, or after ESC and intermediate bytes: the next other byte ends it.
    Escape,
    /// After `ESC [`: a byte from `@` on ends it.
    Control,
    /// After `ESC ]`, `ESC P` and the like: BEL or `ESC \` ends it.
    Operand,
    /// In an operand, after ESC.
    OperandEscape,
}

impl Plain {
    /// The bytes without sequences.
    ///
    /// What cannot be in a sequence, above all a newline, ends it and is kept, so that a sequence that never ends costs no
    /// more than its line.
    pub(crate) fn without_sequences(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            *self = match (*self, byte) {
                (Self::Operand, ESCAPE) => Self::OperandEscape,
                (_, ESCAPE) => Self::Escape,
                (Self::Operand, BELL) | (Self::OperandEscape, b'\\') => Self::Text,
                (Self::Text, _) | (_, ..0x20) | (Self::Escape | Self::Control, 0x7f..) => {
                    text.push(byte);
                    Self::Text
                }
                (Self::Escape, b'[') => Self::Control,
                (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::Operand,
                (Self::Escape, 0x20..=0x2f) => Self::Escape,
                (Self::Escape, _) => Self::Text,
                (Self::Control, b'@'..=b'~') => Self::Text,
                (Self::Control, _) => Self::Control,
                (Self::Operand | Self::OperandEscape, _) => Self::Operand,
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&str, &str)] = &[
        ("plain\ttext\r\n", "plain\ttext\r\n"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b[2K\x1b[1Gx", "x"),
        ("\x1b[38:2::1:2:3mcolon", "colon"),
        ("\x1b[?25lhidden\x1b[?25h", "hidden"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bascii\x1b7\x1b=", "ascii"),
        ("\x1b\x1b[1mx", "x"),
        ("\x1b[31\nnext", "\nnext"),
        ("\x1b]0;never ends\nnext", "\nnext"),
        ("gr\u{fc}n \x1b[32m\u{2713}\x1b[m", "gr\u{fc}n \u{2713}"),
        ("\x1b[3\u{fc}x \x1b\u{fc}y", "\u{fc}x \u{fc}y"),
        ("ends in \x1b", "ends in "),
    ];

    #[test]
    fn sequences_go_and_text_stays() {
        for (input, expected) in CASES {
            let got = Plain::default().without_sequences(input.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), *expected, "{input:?}");
        }
    }

    #[test]
    fn however_the_stream_is_cut() {
        for (input, expected) in CASES {
            for cut in 0..=input.len() {
                let (first, second) = input.as_bytes().split_at(cut);
                let mut plain = Plain::default();
                let got = [plain.without_sequences(first), plain.without_sequences(second)].concat();
                assert_eq!(String::from_utf8_lossy(&got), *expected, "{input:?} cut at {cut}");
            }
        }
    }
}

//! Values of a payload as the types of their fields.

use super::{
    super::{KeyType, TimeUnit, decode::Role, number, sections, time, truncate},
    Rows, Scalar,
};
use crate::columns::{Column, MISSING_INT, Slot, Truth, Type};

/// No string of any framework.
const UNREADABLE: &str = "?";

/// Expected instead of a number that no float can hold.
const IN_RANGE: &str = "a number up to 1.8e308: the number is out of range";

impl Rows<'_> {
    /// Takes a text, and of an address its network.
    pub(super) fn put_network(&mut self, role: Role, slot: Option<Slot>, text: &str) {
        let mut buffer = std::mem::take(self.buffer);
        let network = truncate::truncated(text, &mut buffer);
        self.put_text(role, slot, Scalar::Text(network.unwrap_or(text)));
        *self.buffer = buffer;
    }

    pub(super) fn put_text(&mut self, role: Role, slot: Option<Slot>, value: Scalar<'_>) {
        let texts = &mut self.batch.columns.texts;
        let text = match value {
            Scalar::Text(text) => texts.push(text),
            Scalar::Number(number) => texts.push(number::id(number, self.buffer)),
            Scalar::Int(value) => texts.push(itoa::Buffer::new().format(value)),
            Scalar::Float(value) => texts.push(ryu::Buffer::new().format(value)),
            Scalar::Bool(value) => texts.push(if value { "true" } else { "false" }),
        };
        match role {
            Role::User => self.row.user = text,
            Role::Anonymous => self.row.anonymous = text,
            Role::EventId => self.row.event_id = text,
            Role::EventType => self.row.has_type = true,
            Role::Agent => self.row.agent = text,
            Role::OccurredAt | Role::KeyType | Role::Bot | Role::Sections | Role::Other => {}
        }
        let index = self.batch.len();
        if let Some(Column::String(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = text;
        }
    }

    /// Returns whether there is a value.
    pub(super) fn put_double(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Result<bool, &'static str> {
        let value = match value {
            Scalar::Float(value) => value,
            Scalar::Int(value) => value as f64,
            Scalar::Number(text) | Scalar::Text(text) => {
                let text = text.trim();
                let value: f64 = text.parse().map_err(|_| "a number")?;
                // Digits beyond the float range, as opposed to the word "inf".
                if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
                    return Err(IN_RANGE);
                }
                value
            }
            Scalar::Bool(_) => return Err("a number"),
        };
        let index = self.batch.len();
        if value.is_finite()
            && let Some(Column::Double(values)) = slot.map(|slot| self.batch.columns.get_mut(slot))
        {
            values[index] = value;
        }
        Ok(value.is_finite())
    }

    /// Returns whether there is a value.
    pub(super) fn put_int(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Result<bool, &'static str> {
        const EXPECTED: &str = "a whole number";
        let value = match value {
            Scalar::Int(value) => Some(value),
            // Floats beyond 2^53 are not exact integers.
            Scalar::Float(value) => {
                (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
            }
            Scalar::Number(text) | Scalar::Text(text) => {
                let text = text.trim();
                match number::whole(text, self.buffer) {
                    // A missing value, as for a double.
                    None if is_no_number(text) => return Ok(false),
                    value => value,
                }
            }
            Scalar::Bool(_) => None,
        };
        let value = value.ok_or(EXPECTED)?;
        // The smallest integer stands for a missing value, in columns here and in files of other systems.
        if value == MISSING_INT {
            return Ok(false);
        }
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = value;
        }
        Ok(true)
    }

    /// Takes a list of GPP section ids: as text, or as the bits that [`sections`] makes of it.
    pub(super) fn put_sections(&mut self, slot: Option<Slot>, value: Scalar<'_>) -> Result<(), &'static str> {
        let bits = match value {
            Scalar::Int(bits) => Some(bits),
            Scalar::Number(text) | Scalar::Text(text) => sections::of_text(text),
            Scalar::Float(_) | Scalar::Bool(_) => None,
        };
        let bits = bits.ok_or(sections::EXPECTED)?;
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = bits;
        }
        Ok(())
    }

    /// Takes what stands for a no in a field about consent: a flag that is set, a string that cannot be read, or all laws.
    #[cold]
    pub(super) fn put_refusal(&mut self, role: Role, slot: Option<Slot>, ty: Type) {
        match ty {
            Type::String => self.put_text(role, slot, Scalar::Text(UNREADABLE)),
            Type::Bool => {
                let _fault = self.put_bool(role, slot, Scalar::Bool(true));
            }
            _ => self.put_sections(slot, Scalar::Int(sections::ALL_LAWS)).unwrap_or_default(),
        }
    }

    pub(super) fn put_bool(&mut self, role: Role, slot: Option<Slot>, value: Scalar<'_>) -> Option<&'static str> {
        let value = match value {
            Scalar::Bool(value) => Some(value),
            Scalar::Int(0) | Scalar::Number("0") | Scalar::Text("false" | "FALSE" | "False" | "0") => Some(false),
            Scalar::Int(1) | Scalar::Number("1") | Scalar::Text("true" | "TRUE" | "True" | "1") => Some(true),
            Scalar::Int(_) | Scalar::Number(_) | Scalar::Float(_) | Scalar::Text(_) => None,
        };
        let Some(value) = value else { return Some("true or false") };
        if role == Role::Bot {
            self.row.bot = Truth::from(value);
        }
        let index = self.batch.len();
        if let Some(Column::Bool(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = Truth::from(value);
        }
        None
    }

    pub(super) fn put_time(
        &mut self,
        role: Role,
        slot: Option<Slot>,
        unit: TimeUnit,
        value: Scalar<'_>,
    ) -> Result<(), &'static str> {
        let (micros, number) = match value {
            Scalar::Int(value) => (time::from_int(value, unit), Some(value)),
            Scalar::Number(number) => time::from_number(number, unit).ok_or(time::EXPECTED)?,
            Scalar::Text(text) => time::from_text(text, unit)?,
            Scalar::Float(_) | Scalar::Bool(_) => return Err(time::EXPECTED),
        };
        if role == Role::OccurredAt {
            (self.row.time, self.row.number, self.row.unit) = (Some(micros), number, unit);
        }
        let index = self.batch.len();
        if let Some(Column::Int(values)) = slot.map(|slot| self.batch.columns.get_mut(slot)) {
            values[index] = micros;
        }
        Ok(())
    }
}

/// Whether a text stands for a missing number, such as "nan".
fn is_no_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|value| !value.is_finite()) && !text.bytes().any(|byte| byte.is_ascii_digit())
}

/// The type of a key by name or number; `None` for "unspecified".
pub(super) fn key_type(value: Scalar<'_>) -> Result<Option<KeyType>, &'static str> {
    const EXPECTED: &str = "person, device or app, or a name of aimpoint.v1.KeyType";
    let number = match value {
        Scalar::Int(number) => Some(number),
        Scalar::Number(text) => text.parse().ok(),
        Scalar::Text("KEY_TYPE_UNSPECIFIED") => Some(0),
        Scalar::Text(name) => return KeyType::named(name).map(Some).ok_or(EXPECTED),
        Scalar::Float(_) | Scalar::Bool(_) => None,
    };
    match number {
        Some(0) => Ok(None),
        number => number.and_then(KeyType::of_number).map(Some).ok_or(EXPECTED),
    }
}

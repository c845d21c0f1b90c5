//! What is wrong with a cron expression.

use thiserror::Error;

/// What is wrong with a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CronError {
    /// Not five fields.
    #[error("a cron expression has five fields (minute hour day month weekday), this one has {found}")]
    Fields {
        /// How many it has.
        found: usize,
    },
    /// A word that is neither a number nor a name of the field.
    #[error("{text:?} is no {field}")]
    Value {
        /// The field.
        field: &'static str,
        /// The word.
        text: String,
    },
    /// A number that the field does not have.
    #[error("{value} is no {field}: {low} to {high}")]
    Range {
        /// The field.
        field: &'static str,
        /// The number.
        value: u32,
        /// The field's first number.
        low: u32,
        /// The field's last number.
        high: u32,
    },
    /// A range whose end is before its beginning.
    #[error("the range {range} of the {field} runs backwards: write it as two, separated by a comma")]
    Backwards {
        /// The field.
        field: &'static str,
        /// The range.
        range: String,
    },
    /// A step that is not a number from 1 to the field's size.
    #[error("{step:?} is no step of the {field}: 1 to {size}")]
    Step {
        /// The field.
        field: &'static str,
        /// The step.
        step: String,
        /// How many values the field has.
        size: u32,
    },
    /// A step after a single value, which cron daemons understand differently.
    #[error("the step of {part:?} in the {field} needs a range before it, such as */5 or 10-50/5")]
    StepOfOne {
        /// The field.
        field: &'static str,
        /// The part.
        part: String,
    },
    /// An `@word` that is no time.
    #[error("{word} is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually")]
    Word {
        /// The word.
        word: String,
    },
    /// No day that ever comes.
    #[error("there is no such day: it would never run")]
    Never,
}

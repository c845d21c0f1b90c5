//! Samples to CloudWatch.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};

use crate::{Error, MetricsSink, Sample, Unit, aws};

const CHANNEL: &str = "CloudWatch";
/// The one dimension.
pub(crate) const DIMENSION: &str = "Database";

/// Puts measurements into a namespace.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    client: Client,
    namespace: String,
}

impl CloudWatch {
    /// In this namespace.
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into() }
    }
}

#[async_trait]
impl MetricsSink for CloudWatch {
    fn channel(&self) -> &str {
        CHANNEL
    }

    async fn send(&self, sample: &Sample) -> Result<(), Error> {
        let data: Vec<_> = sample
            .measurements
            .iter()
            .map(|measurement| {
                MetricDatum::builder()
                    .metric_name(measurement.metric.name())
                    .dimensions(dimension(&sample.database))
                    .timestamp(DateTime::from(SystemTime::from(sample.at)))
                    .value(measurement.value)
                    .unit(unit(measurement.metric.unit()))
                    .build()
            })
            .collect();
        if data.is_empty() {
            return Ok(());
        }
        self.client
            .put_metric_data()
            .namespace(&self.namespace)
            .set_metric_data(Some(data))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| aws::error(CHANNEL, &error))
    }
}

pub(crate) fn dimension(database: &str) -> Dimension {
    Dimension::builder().name(DIMENSION).value(crate::plan::dimension_value(database)).build()
}

fn unit(unit: Unit) -> StandardUnit {
    match unit {
        Unit::Count => StandardUnit::Count,
        Unit::Bytes => StandardUnit::Bytes,
        Unit::Seconds => StandardUnit::Seconds,
        Unit::Percent => StandardUnit::Percent,
    }
}

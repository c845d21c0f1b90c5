//! AWS clients for metrics, alarms and topics.

use aws_sdk_cloudwatch::config::Region;

use super::aws;
use crate::commands::Context;
use crate::settings::variable;

/// Clients with our credentials, region and endpoints.
#[derive(Debug)]
pub(crate) struct AwsClients {
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(crate) sns: aws_sdk_sns::Client,
}

impl Context {
    /// The clients; for a topic in another region, one for that region.
    pub(crate) async fn aws_clients(&self, topic_arn: Option<&str>) -> AwsClients {
        let layers = &self.settings.layers;
        let config = aws::sdk_config(layers).await;
        let general = layers.text(&variable::AWS_ENDPOINT_URL);
        let mut cloudwatch = aws_sdk_cloudwatch::config::Builder::from(&config);
        cloudwatch.set_endpoint_url(layers.text(&variable::AWS_ENDPOINT_URL_CLOUDWATCH).or_else(|| general.clone()));
        let mut sns = aws_sdk_sns::config::Builder::from(&config);
        sns.set_endpoint_url(layers.text(&variable::AWS_ENDPOINT_URL_SNS).or(general));
        // arn:aws:sns:region:account:name
        if let Some(region) = topic_arn.and_then(|arn| arn.split(':').nth(3)).filter(|region| !region.is_empty()) {
            sns.set_region(Some(Region::new(region.to_owned())));
        }
        AwsClients {
            cloudwatch: aws_sdk_cloudwatch::Client::from_conf(cloudwatch.build()),
            sns: aws_sdk_sns::Client::from_conf(sns.build()),
        }
    }

    /// The region of metrics and alarms.
    pub(crate) async fn aws_region(&self) -> String {
        let config = aws::sdk_config(&self.settings.layers).await;
        config.region().map_or_else(|| aws::DEFAULT_REGION.to_owned(), ToString::to_string)
    }
}

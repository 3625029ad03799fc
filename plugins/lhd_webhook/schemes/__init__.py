"""The signature schemes: who sent these raw bytes. Each file holds those that are alike."""

from typing import Annotated

from pydantic import Field

from lhd_webhook.schemes.body_signatures import DocusignScheme, GithubScheme, MetaScheme, ShopifyScheme
from lhd_webhook.schemes.credentials import BasicScheme, BearerScheme, MtlsScheme, NoScheme
from lhd_webhook.schemes.jwt_tokens import JwtScheme
from lhd_webhook.schemes.microsoft_graph import MicrosoftGraphScheme
from lhd_webhook.schemes.scheme import Answer, Outgoing, Received, Verifier
from lhd_webhook.schemes.sns import SnsScheme
from lhd_webhook.schemes.template import HmacScheme
from lhd_webhook.schemes.timed_signatures import GitlabScheme, SlackScheme, StandardWebhooksScheme, StripeScheme
from lhd_webhook.schemes.twilio import TwilioScheme

AnyScheme = (
    GithubScheme
    | GitlabScheme
    | StripeScheme
    | SlackScheme
    | ShopifyScheme
    | TwilioScheme
    | DocusignScheme
    | StandardWebhooksScheme
    | SnsScheme
    | MetaScheme
    | MicrosoftGraphScheme
    | HmacScheme
    | BasicScheme
    | BearerScheme
    | JwtScheme
    | MtlsScheme
    | NoScheme
)
Verify = Annotated[AnyScheme, Field(discriminator="scheme")]

__all__ = ["Answer", "Outgoing", "Received", "Verifier", "Verify"]

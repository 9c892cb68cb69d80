"""Which host sends which headers: a table.

Each kind of host is one row of `HOSTS`. Its name is the value of the label `jiemi.cr/webhook` of the Secret that holds
the secrets. The Secret says how a request must be signed, never the request itself: so nobody can choose a weaker way.

    github      https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    gitlab      https://docs.gitlab.com/user/project/integrations/webhooks/ (a secret token, or a signing token)
    gitea, forgejo, gogs
                https://docs.gitea.com/usage/webhooks, https://forgejo.org/docs/latest/user/webhooks
    bitbucket   https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/
    bitbucket-data-center
                https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html
    azure-devops
                https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks (it signs nothing)
    standard    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    codecommit  messages of an Amazon SNS topic (`jiemi.core.webhooks.sns`), signed by SNS; the secret is its ARN
    oidc        a token of an OpenID provider (`jiemi.core.webhooks.oidc`), with a body as that of generic
    generic     X-Signature: sha256=HEX or sha512=HEX, as Flux's generic-hmac has it
    cdevents    the same, with a body by https://cdevents.dev (the specification has no signature of its own)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import attrs


class Scheme(enum.Enum):
    """How a host shows that a request is its own."""

    HMAC = "hmac"
    """A header holds an HMAC of the body in hexadecimal digits."""
    TOKEN = "token"  # noqa: S105 - the name of a scheme
    """A header holds the secret itself, or, where the secret is a signing token (whsec_…), as STANDARD."""
    STANDARD = "standard"
    """Standard Webhooks: an HMAC of the id, the time and the body."""
    BASIC = "basic"
    """HTTP basic authentication; the secret is user:password."""
    SNS = "sns"
    """The body is a message of Amazon SNS, signed by SNS's own certificate."""
    OIDC = "oidc"
    """A token of an OpenID provider is the bearer of the request."""


class Form(enum.Enum):
    """How the body says which repository moved (`jiemi.core.webhooks.payload`)."""

    GITHUB = "github"
    GITLAB = "gitlab"
    BITBUCKET = "bitbucket"
    BITBUCKET_DATA_CENTER = "bitbucket-data-center"
    AZURE_DEVOPS = "azure-devops"
    CODECOMMIT = "codecommit"
    GENERIC = "generic"
    CDEVENTS = "cdevents"


@attrs.frozen
class HmacHeader:
    """A header with an HMAC of the body.

    Attributes:
        name: in lower case.
        algorithms: the hash functions by the prefix that names them; "" where the header has none. SHA-1 is none of
            them: who sends it sends SHA-256 too.
    """

    name: str
    algorithms: Mapping[str, str] = MappingProxyType({"sha256=": "sha256"})


@attrs.frozen
class Host:
    """A kind of host.

    Attributes:
        scheme: how it signs.
        form: what its bodies are.
        signatures: the headers that may hold the HMAC, the first that is there counts (HMAC).
        token: the header that holds the secret (TOKEN).
        event: the header that names the event; "" where the body does.
        deliveries: the headers that may hold the id of a delivery; the first that is there counts.
    """

    scheme: Scheme
    form: Form
    signatures: tuple[HmacHeader, ...] = ()
    token: str = ""
    event: str = ""
    deliveries: tuple[str, ...] = ()


_BARE: Mapping[str, str] = MappingProxyType({"": "sha256"})
_STRONG: Mapping[str, str] = MappingProxyType({"sha256=": "sha256", "sha512=": "sha512"})

STANDARD_ID = "webhook-id"
STANDARD_TIMESTAMP = "webhook-timestamp"
STANDARD_SIGNATURE = "webhook-signature"

HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        "github": Host(
            Scheme.HMAC,
            Form.GITHUB,
            signatures=(HmacHeader("x-hub-signature-256"),),
            event="x-github-event",
            deliveries=("x-github-delivery",),
        ),
        "gitlab": Host(
            Scheme.TOKEN,
            Form.GITLAB,
            token="x-gitlab-token",  # noqa: S106 - the name of a header
            event="x-gitlab-event",
            deliveries=(STANDARD_ID, "idempotency-key", "x-gitlab-event-uuid"),
        ),
        "gitea": Host(
            Scheme.HMAC,
            Form.GITHUB,
            signatures=(HmacHeader("x-gitea-signature", _BARE),),
            event="x-gitea-event",
            deliveries=("x-gitea-delivery",),
        ),
        # A webhook of the kind Gitea in Forgejo sends the headers of Gitea only.
        "forgejo": Host(
            Scheme.HMAC,
            Form.GITHUB,
            signatures=(HmacHeader("x-forgejo-signature", _BARE), HmacHeader("x-gitea-signature", _BARE)),
            event="x-gitea-event",
            deliveries=("x-forgejo-delivery", "x-gitea-delivery"),
        ),
        "gogs": Host(
            Scheme.HMAC,
            Form.GITHUB,
            signatures=(HmacHeader("x-gogs-signature", _BARE),),
            event="x-gogs-event",
            deliveries=("x-gogs-delivery",),
        ),
        "bitbucket": Host(
            Scheme.HMAC,
            Form.BITBUCKET,
            signatures=(HmacHeader("x-hub-signature"),),
            event="x-event-key",
            deliveries=("x-request-uuid",),
        ),
        "bitbucket-data-center": Host(
            Scheme.HMAC,
            Form.BITBUCKET_DATA_CENTER,
            signatures=(HmacHeader("x-hub-signature"),),
            event="x-event-key",
            deliveries=("x-request-id",),
        ),
        "azure-devops": Host(Scheme.BASIC, Form.AZURE_DEVOPS),
        "codecommit": Host(Scheme.SNS, Form.CODECOMMIT, deliveries=("x-amz-sns-message-id",)),
        # A token is made for one request, so two requests with one body are two.
        "oidc": Host(Scheme.OIDC, Form.GENERIC, deliveries=("authorization",)),
        "standard": Host(Scheme.STANDARD, Form.GENERIC, deliveries=(STANDARD_ID,)),
        "generic": Host(Scheme.HMAC, Form.GENERIC, signatures=(HmacHeader("x-signature", _STRONG),)),
        "cdevents": Host(
            Scheme.HMAC, Form.CDEVENTS, signatures=(HmacHeader("x-signature", _STRONG),), deliveries=("ce-id",)
        ),
    }
)
"""The kinds of hosts, by the value of the label."""

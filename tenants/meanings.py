"""What every field of a document means, a sentence each: the tables of the READMEs and the schemas for editors are made of these. Pure.

A field is named by its kind and its path: `[]` is any item, `<infer>` the variant of that tag, `<name>` any key.
"""

from typing import Final

from tenants import kms, names, plans
from tenants.certificates import MOST_CERTIFICATES
from tenants.issuers import MOST_ISSUERS
from tenants.model import MOST_TENANTS
from tenants.names import Names


def _named(what: str, kind: Names) -> str:
    return f"{what}: {kind.rule.removeprefix('must be ')}"


MEANINGS: Final[dict[str, str]] = {
    "Fleet name": _named("what models call it", names.FLEET),
    "Fleet scaler.type": "tritonservers are children of the gateway, on its host",
    "Fleet replicas.min": "servers that run also while nobody calls; not more than `max`",
    "Fleet replicas.max": "most servers at once",
    "Fleet memory_bytes": "what the models on one server may use together",
    "Fleet idle_seconds": "a server without a model for so long is stopped",
    "Issuer issuer": "its URL, letter by letter as `iss` in its tokens; https and public, unless `insecure`",
    "Issuer audience": "its tokens are taken when this is among those of `aud`; with one audience an issuer has one owner",
    "Issuer jwks_url": "where its keys are; without it its OpenID configuration says that",
    "Issuer roles_claim": "the claim with the role or roles: the one of this very name, else the one at this path, "
    "as `realm_access.roles`; of several roles the strongest counts, admin before developer before viewer before billing",
    "Issuer insecure": "it may be http, and at a private address: for tests and laptops",
    "Issuer roles": "what role each value of that claim gives; without it they are roles by their own names. "
    "`operator` only with `operators`, and then nothing else",
    "Issuer tenant_claim": "the claim with the name of the tenant, required unless `operators`; found as `roles_claim`",
    "Issuer operators": "its tokens are for the operators' listener: whom `roles_claim` gives `operator` is one, and nobody else",
    "Model name": _named("its name in URLs and in Triton", names.MODEL),
    "Model repository": "the folder that holds `<name>/config.pbtxt`, relative to the document",
    "Model tenants": f'who may call it, {MOST_TENANTS} names at most; `"*"` is everybody',
    "Model fleet": "the fleet that it runs on",
    "Model memory_bytes": "what it takes of its server's memory; not more than the fleet's",
    "Model scaling.max_replicas": "most servers that have it at once; not more than the fleet's",
    "Model scaling.target_concurrency": "calls at once that one server should have of it; with more there come more",
    "Model scaling.idle_seconds": "without a call for so long it is unloaded",
    "Model scaling.start_deadline_seconds": "a call is held at most so long for a place",
    "Model canary": "a request that it answers with 200 while it is well; without one zeros are sent, where its inputs allow that",
    "Model canary.inputs": "its tensors, in the words of the Open Inference Protocol",
    "Model canary.inputs[].name": "the input's name",
    "Model canary.inputs[].datatype": "BOOL, BYTES, FP32, FP64, or INT or UINT with 8, 16, 32 or 64",
    "Model canary.inputs[].shape": "its dimensions",
    "Model canary.inputs[].data": "its elements, flat, in row-major order; as many as the shape says",
    "Model openai": "how it is offered through OpenAI's API; without one it is not",
    "Model openai<generate>.backend": "chat and completions: it takes a text, and gives texts through Triton's generate_stream, "
    "decoupled or not",
    "Model openai<generate>.input": "the input that takes the prompt: BYTES, one element",
    "Model openai<generate>.output": "the output that gives text: BYTES, one element; what comes later goes behind what came before",
    "Model openai<generate>.parameters": "what it takes under the same name; others are dropped, and without `max_tokens` its reply "
    "is cut after so many pieces. `stream` is always sent as true",
    "Model openai<generate>.max_tokens": "the most that a request may ask for, and what it gets when it does not say",
    "Model openai<generate>.chat_template": 'in Jinja2; `""` is that of `tokenizer_config.json` in the model\'s folder. '
    "Without any there is no chat",
    "Model openai<infer>.backend": "embeddings: it takes texts, and gives a row of FP32 for each",
    "Model openai<infer>.input": "the input that takes the texts: BYTES",
    "Model openai<infer>.output": "the output that gives the rows: FP32, [n, dimensions]",
    "Model openai<infer>.batched": "the input has the shape [n, 1], as of a model that Triton batches, and not [n]",
    "Model openai<pass-through>.backend": "all that a server gives which speaks OpenAI's API itself, as Triton's own front end does; "
    "somebody else runs it",
    "Model openai<pass-through>.address": "`HOST:PORT` of that server, over HTTP in the clear: on the gateway's host, or in a network of "
    "its setting upstream.private_networks; or `https://HOST:PORT`: at a public address, or in such a network. "
    "An IPv6 address is in brackets",
    "Model openai<pass-through>.model": 'what the model is called there; `""` is the same name',
    "Model description": "what people read of it in the catalogue, in lines of printable characters",
    "Model tags": _named("words to find it by, none twice", names.TAG),
    "Model inputs": "what it takes, as the catalogue tells it; Triton has its own word in `config.pbtxt`, and that one counts",
    "Model inputs[].name": "the tensor's name, none twice",
    "Model inputs[].datatype": "what its elements are",
    "Model inputs[].shape": "its dimensions; -1 is any number",
    "Model inputs[].description": "what it stands for",
    "Model outputs": "what it gives, in the same words as `inputs`",
    "Model region": _named("where it runs, for tenants that keep to some regions", names.REGION),
    "Plan name": _named("what tenants call it", names.PLAN),
    "Plan weight": "its share when tenants wait for the same model",
    "Plan limits.body_bytes": "a request's body has at most so many",
    "Plan limits.requests_per_second": "how fast requests may come",
    "Plan limits.requests_per_second.rate": "so many a second in the long run",
    "Plan limits.requests_per_second.burst": "so many at once",
    "Plan limits.concurrent_requests": "so many under way at once",
    "Plan limits.requests_per_day": "so many that a model was asked for, from midnight to midnight, UTC",
    "Plan limits.tokens_per_minute": "tokens of prompts and replies together, from one full minute to the next",
    "Plan limits.compute_seconds_per_day": "seconds that its requests are under way at a model, from midnight to midnight, UTC",
    "Plan limits.money_per_month": 'an amount of the currency of `prices`, which it needs, over 0, in quotes, as `"500.00"`; from the '
    "first of a month, UTC, to the next",
    "Plan limits.soft": "what warns, in the RateLimit headers, the log and the audit records, and refuses nothing",
    "Plan limits.soft.money_per_month": "an amount, not more than `limits.money_per_month`",
    "Plan limits.per_key": "limits of each key alone: those of `limits` but `body_bytes` and `soft`",
    "Plan limits.per_model": f"limits of models by their names, {plans.MOST_MODELS} at most: the same as of a key",
    "Plan prices": "what calls cost, for budgets of money and for what the tenant is told; nothing is billed yet",
    "Plan prices.currency": "three letters of ISO 4217",
    "Plan prices.per_1000_requests": 'an amount: 12 digits at most, and 6 after the point, in quotes, as `"0.10"`',
    "Plan prices.per_million_tokens": "an amount",
    "Plan prices.per_compute_second": "an amount",
    "Privacy name": _named("what tenants call it", names.PRIVACY) + "; not none",
    "Privacy mask": "the kinds of personal data that are masked in texts before a model or a record gets them, none twice",
    "Privacy reversible": "placeholders in a reply become again what they stand for, through each door and in streams",
    "Privacy phone_regions": "countries whose national telephone numbers count, which have no `+`, by ISO 3166-1 as `US`, none twice; "
    "international numbers always do. Only where phone is masked",
    "Privacy capture": "whether requests and replies are kept, sealed, as they are after masking: of no request, of some, of all",
    "Privacy capture.sampled": "the part of its requests, chosen by chance",
    "Privacy retention_days.bodies": "the bodies of audit records are deleted when they are so many days old; entries are kept for ever",
    "Privacy retention_days.capture": "captured requests and replies are deleted when they are so many days old",
    "Tenant name": _named("the customer's name, for good", names.TENANT)
    + f"; none of {', '.join(sorted(names.TENANT.reserved))}",
    "Tenant plan": "the plan that it is on",
    "Tenant members": "the people who may look after it; without the key they stay as they are",
    "Tenant members[].email": _named("whom to write to, none twice in whatever case", names.MEMBER),
    "Tenant members[].role": "what they may do",
    "Tenant issuers": f"identity providers of its own, {MOST_ISSUERS} at most: who has a token of one is the tenant's; "
    "fields as of an `Issuer`, but `tenant_claim` and `operators`. Without the key they stay as they are",
    "Tenant certificates": f"client certificates of its own, {MOST_CERTIFICATES} at most: who shows one is the tenant's. Each has one of "
    "`uri`, `dns` and `email`, a name of the subject's alternative names, letter by letter, and it is one tenant's. Without the key they "
    "stay as they are",
    "Tenant certificates[].name": _named("what the tenant calls it, none twice", names.CERTIFICATE),
    "Tenant certificates[].uri": "as `spiffe://acme.example/ingest`",
    "Tenant certificates[].dns": "in lower case, as `ingest.acme.example`; no wildcard",
    "Tenant certificates[].email": "as `ingest@acme.example`",
    "Tenant certificates[].models": "only these models; without it all that the tenant has",
    "Tenant restrictions": "what every credential of the tenant is narrowed to; without the key it stays as it is, `{}` lifts it",
    "Tenant restrictions.regions": "only models whose `region` is one of these; one without a region is in none",
    "Tenant restrictions.models": "only these models",
    "Tenant restrictions.networks": "only from these ranges of addresses, as `192.0.2.0/24` or `2001:db8::/32`",
    "Tenant privacy": "the `Privacy` that it has; without the key it stays as it is, `none` takes it away",
    "Tenant kms_key": f"the key of its own that wraps its data keys: {kms.FORM}; only where the gateway has `keys.kms_key`. Without it "
    "that stays as it is, `none` takes it away",
    "Tenant state": "a suspended one is not served. Without it the state stays, a new tenant is active; closing is not for a file to say",
}

# Fields that mean what those of another path mean; the tables leave them out.
SAME_AS: Final = {
    "Tenant issuers[].": "Issuer ",
    "Model outputs[].": "Model inputs[].",
    "Plan limits.per_key.": "Plan limits.",
    "Plan limits.per_model.<name>.": "Plan limits.",
}


def of(path: str) -> str:
    """What the field means, "" for a mapping that only holds others."""
    for prefix, same in SAME_AS.items():
        if path.startswith(prefix):
            path = same + path.removeprefix(prefix)
    return MEANINGS.get(path, "")

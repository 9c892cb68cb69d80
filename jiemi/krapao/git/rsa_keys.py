"""RSA private keys that a tenant gives: read in bounded time, and signed with only where they hold together.

OpenSSL looks for divisors of a key's primes as it reads it, which takes seconds in which no other thread of the process
runs. So that is left out; that the numbers fit one another is checked here, which is what OpenSSL counts on.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

MAX_RSA_BITS = 8_192


def fits(key: rsa.RSAPrivateKey) -> bool:
    """Whether the numbers of an RSA key fit one another (RFC 8017, section 3.2), but for that p and q are primes."""
    own = key.private_numbers()
    p, q, d, public = own.p, own.q, own.d, own.public_numbers
    return (
        p > 2
        and q > 2
        and p % 2 == q % 2 == public.e % 2 == 1
        and public.e > 2
        and p * q == public.n
        and d % (p - 1) == own.dmp1
        and d % (q - 1) == own.dmq1
        and own.dmp1 * public.e % (p - 1) == 1
        and own.dmq1 * public.e % (q - 1) == 1
        and own.iqmp * q % p == 1
    )

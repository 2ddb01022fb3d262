"""Makes 60 calls over one channel and prints how many each server has answered, most first."""
import collections
import sys

import grpc


def pod(reply):
    """The first field of the reply, a string: key, length, text."""
    return reply[2 : 2 + reply[1]]


with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.unary_unary("/mizzen.test.echo.v1.Echo/Call", request_serializer=bytes, response_deserializer=pod)
    answered = collections.Counter(call(b"", timeout=10) for _ in range(60))
print(*sorted(answered.values(), reverse=True))

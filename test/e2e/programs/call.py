"""Calls the server that argv names by the client that PyPI has for it, and prints what comes of it."""
import asyncio
import sys
import uuid

name, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
word = uuid.uuid4().hex


def memcached():
    from pymemcache.client.base import Client

    c = Client((host, port), timeout=10)
    c.set(word, "kept", noreply=False)
    return c.get(word).decode()


def rabbitmq():
    import pika

    connection = pika.BlockingConnection(pika.ConnectionParameters(host, port, socket_timeout=10))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"passed")
    for _, _, body in channel.consume(queue, inactivity_timeout=10):
        return body.decode()


def kafka():
    from kafka import KafkaConsumer, KafkaProducer

    producer = KafkaProducer(bootstrap_servers=f"{host}:{port}", request_timeout_ms=20000)
    producer.send(word, b"passed").get(20)
    consumer = KafkaConsumer(word, bootstrap_servers=f"{host}:{port}", auto_offset_reset="earliest", consumer_timeout_ms=20000)
    return next(consumer).value.decode()


def nats():
    import nats as client

    async def ask():
        c = await client.connect(f"nats://{host}:{port}")

        async def answer(message):
            await message.respond(b"answered")

        await c.subscribe(word, cb=answer)
        reply = await c.request(word, b"", timeout=10)
        await c.close()
        return reply.data.decode()

    return asyncio.run(ask())


def zookeeper():
    from kazoo.client import KazooClient

    c = KazooClient(f"{host}:{port}", timeout=10)
    c.start(20)
    path = c.create("/" + word, b"kept", ephemeral=True)
    value = c.get(path)[0].decode()
    c.stop()
    return value


def zookeeper_many():
    """45 connections to one member at the same time; prints how many of them are served, and then holds them for a while."""
    import socket
    import time

    served, held = 0, []
    # A request to connect: protocol 0, nothing seen, a session of 30 s, none before, no password.
    body = bytes(4) + bytes(8) + (30000).to_bytes(4, "big") + bytes(8) + (16).to_bytes(4, "big") + bytes(16)
    for _ in range(45):  # one after the other: ZooKeeper counts late, and lets more of a crowd in
        try:
            s = socket.create_connection((host, port), 10)
            held.append(s)
            s.sendall(len(body).to_bytes(4, "big") + body)
            served += len(s.recv(4)) == 4
        except OSError:
            pass
    print(served, flush=True)
    time.sleep(8)  # so that another client's come beside them
    sys.exit()


print({"zookeeper-many": zookeeper_many}.get(name, globals().get(name))())

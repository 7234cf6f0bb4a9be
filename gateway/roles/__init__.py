"""What has a process open, by what it is for?

    whole    all rooms in one process: `gateway demo`, `gateway serve`
    worker   the rooms of a request: who may come in, the pipeline, its limits, its log, the doors for clients
    side     what one process of a host does for all: servers and models come and go, what is old goes, keys are looked after
    shared   the rooms that both have

A whole process opens what a worker does and what the side does, over the same shared rooms: nothing knows which of the three it is in.
"""

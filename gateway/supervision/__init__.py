"""Who starts the processes of a host, watches them, and ends them?

    supervisor   a small process without rooms: `gateway serve --workers N`. It binds the listeners; starts, replaces and ends the others
    worker       serves clients; N of them
    side         what one process of a host does for all; one of them
    slot         the place of one child: its children come and go, one after the other
    child        one life of one of these processes
    hand over    to end while another one is there that takes what comes

`gateway/roles` says what is open in a worker and in the side.
"""

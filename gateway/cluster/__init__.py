"""Who else is here, who acts, and what changed?

Any number of gateways serve one directory, as equals, and none tells another anything: they meet in the Table alone. Today this room
answers the last question (`feed`); membership and leadership join it when there are things that only one of them may do.

    change    one transaction on the directory; it has a number, and a record behind that number
    look      a read of the last number, and of the records behind the one that was seen before
    behind    a reader that cannot tell what it missed; it knows nothing then, and reads anew
"""

"""placeholder"""


def page(evaluation, samples):
    return "<html></html>"

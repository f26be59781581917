"""JupyterLab beside the scheduler: what it is told, how it is started, how a person gets there.

Knows neither the engine nor a cluster: both come as plain values.  The server itself is Jupyter's.
"""

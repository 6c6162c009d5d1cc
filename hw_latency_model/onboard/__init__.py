"""Programs that run exported networks on a board, beside the agent: Python 3.6 to 3.14 and what the board ships.

They are packed into a bundle's ``runner.pyz`` and into ``solution.pyz`` together with the agent and the torch operators; they import
nothing else of this repository.
"""
